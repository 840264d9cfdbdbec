"""The teacher a stage asks: registered and told by options, or one of the experiment's own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SerializationInfo, field_serializer

from ecr_bench.outside import as_identity
from ecr_bench.section import Section
from ecr_bench.sections import TeacherConfig
from ecr_bench.teachers.base import HasSource, Teacher
from ecr_bench.teachers.registry import create


class TeacherSettings(Section):
    name: str
    options: dict[str, Any] = {}
    own: bool = False
    """Whether its model is an input of the stage and no path in the options (teacher ``checkpoint`` by ``size``)."""

    @field_serializer("options")
    def _by_fingerprint(self, options: dict[str, Any], info: SerializationInfo) -> dict[str, Any]:
        if self.own or not as_identity(info):
            return options
        teacher = open_teacher(self, None)
        source = {"source": teacher.source} if isinstance(teacher, HasSource) else {}
        return {"fingerprint": teacher.fingerprint, **source}


def open_teacher(settings: TeacherSettings, own: Path | None) -> Teacher:
    """The teacher of ``settings``; ``own``: folder of the stage that made its model."""
    options = dict(settings.options)
    if settings.own:
        assert own is not None
        options["path"] = str(own / "model")
    return create(TeacherConfig(name=settings.name, options=options))
