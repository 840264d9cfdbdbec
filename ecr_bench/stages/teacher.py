"""The teacher a stage asks: registered and told by options, or one of the experiment's own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SerializationInfo, field_serializer

from ecr_bench.io import read_json
from ecr_bench.outside import as_identity
from ecr_bench.section import Section
from ecr_bench.sections import TeacherConfig
from ecr_bench.teachers.base import HasSource, Teacher
from ecr_bench.teachers.registry import create

LAYER = "layer.json"
"""What the stage that chooses a layer leaves."""


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

    @property
    def chooses_layer(self) -> bool:
        """Whether the layer that is pooled is chosen on training text (stages/teacher_layer.py)."""
        return self.options.get("layer") == "retrieval"


def open_teacher(settings: TeacherSettings, own: Path | None, layer: Path | None = None) -> Teacher:
    """The teacher of ``settings``; ``own``: folder of the stage that made its model, ``layer``: of the one that chose
    its layer."""
    options = dict(settings.options)
    if layer is not None:
        options["layer"] = read_json(layer / LAYER)["layer"]
    if settings.own:
        assert own is not None
        options["path"] = str(own / "model")
    return create(TeacherConfig(name=settings.name, options=options))
