"""An arm is what a board ranks: a method with its modifiers and settings, at a size. Nobody else names arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ecr_bench.errors import unknown

Setting = str | int | float | bool | None


class Role(StrEnum):
    """The part a method plays in a comparison."""

    MAIN = "main"
    """ECR as published: what the claims are about."""
    PLAIN = "plain"
    """Fine-tuning without control tokens: what it is compared with."""
    ANCHOR_CONTROL = "anchor control"
    """Control tokens without the anchors' meaning: if one does as well, the gain is not due to anchors."""
    MODEL_CONTROL = "model control"
    """The anchors' knowledge without a language model reading: if one does as well, the gain is not the model's."""
    UPPER_BOUND = "upper bound"
    """Needs the teacher at test time: not deployable, in no rank."""
    CONTENDER = "contender"
    """Any other method."""


@dataclass(frozen=True, order=True)
class Arm:
    """A value: two arms are the same when all but the role is equal.

    Prints as ``ecr-1x``, ``ecr+dropout-1x`` or ``ecr-1x[control_tokens.count=8]``. The printed form is never cut
    again: :meth:`parse` looks it up among arms that are known.
    """

    method: str
    """Registered method."""
    size: str
    """Name of a size of the experiment."""
    modifiers: tuple[str, ...] = ()
    """Registered modifiers, in the order in which they were composed."""
    settings: tuple[tuple[str, Setting], ...] = ()
    """Dotted key and value of each setting in which the arm differs from its experiment, by key."""
    role: Role = field(default=Role.CONTENDER, compare=False)

    def __str__(self) -> str:
        inside = ",".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.name}-{self.size}" + (f"[{inside}]" if inside else "")

    @property
    def name(self) -> str:
        """Method and modifiers without size and settings: ``ecr+dropout``."""
        return "+".join((self.method, *self.modifiers))

    @classmethod
    def parse(cls, text: str, known: Iterable[Arm]) -> Arm:
        """The one of ``known`` that prints as ``text``; UserError lists them."""
        arms = {str(arm): arm for arm in known}
        if text not in arms:
            raise unknown("arm", text, arms)
        return arms[text]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; :meth:`from_json` is its inverse."""
        return {
            "method": self.method,
            "size": self.size,
            "modifiers": list(self.modifiers),
            "settings": dict(self.settings),
            "role": str(self.role),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Arm:
        """ValueError or KeyError where ``raw`` is not what :meth:`to_json` gives."""
        settings = tuple(sorted(raw["settings"].items()))
        return cls(raw["method"], raw["size"], tuple(raw["modifiers"]), settings, Role(raw["role"]))
