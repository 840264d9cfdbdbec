"""An arm is what a board ranks: a method with its modifiers and settings, at a size. Nobody else names arms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

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

    @property
    def is_control(self) -> bool:
        return self in (Role.ANCHOR_CONTROL, Role.MODEL_CONTROL)

    @property
    def competes(self) -> bool:
        """Neither a control nor an upper bound."""
        return not self.is_control and self is not Role.UPPER_BOUND

    def under(self, modifiers: Sized) -> Role:
        """What is left of it: with modifiers neither the main nor the plain method is what the claims speak of."""
        return Role.CONTENDER if modifiers and self in (Role.MAIN, Role.PLAIN) else self


@dataclass(frozen=True)
class Arm:
    """A value: two arms are the same when all but the role is equal.

    Prints as ``ecr-1x``, ``ecr+dropout-1x`` or ``ecr-1x[control_tokens.count=8]``. The printed form is never cut
    again: ``parse`` looks it up among arms that are known.
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

    @classmethod
    def of(
        cls,
        method: str,
        size: str,
        settings: Mapping[str, Any] | None = None,
        role: Role = Role.CONTENDER,
        modifiers: Iterable[str] = (),
    ) -> Arm:
        """The arm of an entry of ``cells``; lists and mappings among its settings are kept as compact JSON."""
        return cls(method, size, tuple(modifiers), _frozen(settings or {}), role)

    def __str__(self) -> str:
        inside = ",".join(f"{key}={_printed(value)}" for key, value in self.settings)
        return f"{self.name}-{self.size}" + (f"[{inside}]" if inside else "")

    def __lt__(self, other: Arm) -> bool:
        return str(self) < str(other)

    def cell(self, seed: int) -> str:
        """The name of its cell at a seed: ``ecr-1x-s0``, ``ecr-1x-s0-control_tokens.count=8``."""
        return f"{self.without_settings}-s{seed}" + "".join(f"-{key}={_printed(value)}" for key, value in self.settings)

    @property
    def name(self) -> str:
        """Method and modifiers without size and settings: ``ecr+dropout``."""
        return "+".join((self.method, *self.modifiers))

    @property
    def is_plain_form(self) -> bool:
        """Without modifiers and settings: the method as it is registered, in the experiment as it is."""
        return not self.modifiers and not self.settings

    @property
    def without_settings(self) -> Arm:
        """The same method, modifiers and size as the experiment sets them."""
        return Arm(self.method, self.size, self.modifiers, (), self.role)

    @classmethod
    def parse(cls, text: str, known: Iterable[Arm]) -> Arm:
        """The one of ``known`` that prints as ``text``; UserError lists them."""
        arms = by_name(known)
        if text not in arms:
            raise unknown("arm", text, arms)
        return arms[text]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``from_json`` is its inverse."""
        return {
            "method": self.method,
            "size": self.size,
            "modifiers": list(self.modifiers),
            "settings": dict(self.settings),
            "role": str(self.role),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Arm:
        """ValueError or KeyError where ``raw`` is not what ``to_json`` gives."""
        settings = tuple(sorted(raw["settings"].items()))
        return cls(raw["method"], raw["size"], tuple(raw["modifiers"]), settings, Role(raw["role"]))


def by_name(arms: Iterable[Arm]) -> dict[str, Arm]:
    """Printed form -> arm."""
    return {str(arm): arm for arm in arms}


def with_bare_forms(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Printed form -> arm, of ``arms`` and of each without its settings: a claim may pool settings."""
    return {**by_name(arm.without_settings for arm in arms.values()), **arms}


def as_setting(value: Any) -> Setting:
    """How an arm keeps a value: lists and mappings as compact JSON."""
    if isinstance(value, Setting):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _printed(value: Setting) -> Setting:
    """A text that could be taken for a value and one more setting stands in quotes."""
    plain = not isinstance(value, str) or "=" not in value or value[:1] in ("[", "{")
    return value if plain else json.dumps(value, ensure_ascii=False)


def _frozen(settings: Mapping[str, Any]) -> tuple[tuple[str, Setting], ...]:
    return tuple((key, as_setting(value)) for key, value in sorted(settings.items()))


def _look_up(value: Any, info: ValidationInfo) -> Arm:
    if isinstance(value, Arm):
        return value
    known: Mapping[str, Arm] = (info.context or {}).get("arms", {})
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{value!r} is not in the table of arms")
    return known[value]


NamedArm = Annotated[Arm, BeforeValidator(_look_up), PlainSerializer(str)]
"""An arm as a field of what is written to a file: there it is its printed form, which reading looks up in the table of
arms that the run keeps beside its files (validation context ``arms``: printed form -> arm)."""
