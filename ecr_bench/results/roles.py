"""Which arms of a run play which part, and what a control that is not beaten means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.methods.registry import METHODS, SHIPPED
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.schema import Attribution

_KINDS = {name: METHODS.get(name) for name in SHIPPED}
REQUIRED_CONTROLS = tuple(name for name, kind in _KINDS.items() if kind.role.is_control and kind.trains_model)
"""Methods without which attribution is untested (docs/protocol.md, 5); the probe exists for some corpora only."""
RATIO = 3.0
"""How many times larger the plain model of the question is."""


@dataclass(frozen=True)
class Cast:
    """The arms of a run by the part they play; only methods in their plain form play one."""

    arms: tuple[Arm, ...]
    """All arms of the run."""
    parameters: Mapping[str, int]
    """Size -> parameters of its language model, rising; sizes without a count are not in it."""

    @classmethod
    def of(cls, arms: Iterable[Arm], cells: Sequence[CellCosts]) -> Cast:
        given = tuple(arms)
        parameters = parameters_of_sizes(cells)
        ordered = sorted({arm.size for arm in given} & set(parameters), key=lambda size: (parameters[size], size))
        return cls(given, {size: parameters[size] for size in ordered})

    def play(self, role: Role, size: str) -> list[Arm]:
        """The arms of a role at a size, in the order of the run."""
        return [arm for arm in self.arms if arm.role is role and arm.size == size and arm.is_plain_form]

    def first(self, role: Role, size: str | None) -> Arm | None:
        """The arm that stands for a role at a size."""
        return next(iter(self.play(role, size)), None) if size else None

    def controls(self, size: str) -> list[Arm]:
        """Anchor controls, then model controls."""
        return [*self.play(Role.ANCHOR_CONTROL, size), *self.play(Role.MODEL_CONTROL, size)]

    def controls_like(self, arm: Arm, pooled: bool) -> list[Arm]:
        """The controls of an arm's size, once each, in the form in which it was run: with its settings, else plain;
        where settings are ``pooled`` without any, which stands for all."""
        found: dict[str, Arm] = {}
        for role in (Role.ANCHOR_CONTROL, Role.MODEL_CONTROL):
            alike = [one for one in self.arms if one.role is role and one.size == arm.size and not one.modifiers]
            for one in alike:
                if pooled:
                    found[one.method] = one.without_settings
                elif one.settings == arm.settings or (one.is_plain_form and one.method not in found):
                    found[one.method] = one
        return list(found.values())

    def rivals(self, main: Arm) -> list[Arm]:
        """What else would be done with its size, with whatever modifiers: contenders that are no form of ``main``."""
        return [
            arm
            for arm in self.arms
            if arm.role is Role.CONTENDER and arm.size == main.size and arm.method != main.method
        ]

    @property
    def sizes(self) -> list[str]:
        """From small to large by parameters, then those without a count."""
        return list(dict.fromkeys([*self.parameters, *sorted(arm.size for arm in self.arms)]))

    def is_main(self, arm: Arm) -> bool:
        """Whether controls speak to a gain of ``arm``: it is the main method, with whatever modifiers and settings."""
        return any(main.method == arm.method for main in self.arms if main.role is Role.MAIN)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(smaller, larger) size."""
        sizes = list(self.parameters)
        return [(small, large) for i, small in enumerate(sizes) for large in sizes[i + 1 :]]

    @property
    def small(self) -> str | None:
        """The smallest size at which the main method was run; as the experiment sets it, if it was anywhere."""
        return next(iter(self._sizes_of(Role.MAIN, list(self.parameters))), None)

    @property
    def large(self) -> str | None:
        """The larger size with a plain arm whose number of parameters is nearest to three times that of ``small``."""
        if self.small is None:
            return None
        larger = self._sizes_of(Role.PLAIN, [size for size in self.parameters if self.ratio(size) > 1])
        return min(larger, key=lambda size: abs(math.log(self.ratio(size) / RATIO)), default=None)

    def _sizes_of(self, role: Role, sizes: Sequence[str]) -> list[str]:
        """Those of ``sizes`` at which a role was run as the experiment sets it; if at none, in any settings."""
        forms = {arm.size for arm in self.arms if arm.role is role and not arm.modifiers}
        return [size for size in sizes if self.play(role, size)] or [size for size in sizes if size in forms]

    def ratio(self, size: str) -> float:
        """Parameters of ``size`` as a multiple of those of ``small``."""
        assert self.small is not None
        return self.parameters[size] / self.parameters[self.small]


def parameters_of_sizes(cells: Iterable[CellCosts]) -> dict[str, int]:
    """Size -> parameters of its language model: the fewest of its plain arms, else of its main ones, else of any other
    (a probe has no model, so its parameters say nothing)."""
    order = {Role.PLAIN: 0, Role.MAIN: 1}
    best: dict[str, tuple[int, int]] = {}
    for cell in cells:
        if cell.parameters is not None and cell.probe is None:
            found = (order.get(cell.arm.role, 2), cell.parameters)
            best[cell.arm.size] = min(found, best.get(cell.arm.size, found))
    return {size: count for size, (_, count) in best.items()}


def attribute(intervals: Mapping[Arm, tuple[float, float]], required: Iterable[str] = REQUIRED_CONTROLS) -> Attribution:
    """``intervals``: control -> 95 % limits of (main minus control), in the direction in which more is better."""
    held = [arm for arm, (low, _) in intervals.items() if low <= 0]
    run = {arm.name for arm in intervals}
    return Attribution(
        anchors=tuple(arm.name for arm in held if arm.role is Role.ANCHOR_CONTROL),
        model=tuple(arm.name for arm in held if arm.role is Role.MODEL_CONTROL),
        better=tuple(arm.name for arm in held if intervals[arm][1] < 0),
        beaten=tuple(arm.name for arm in intervals if arm not in held),
        untested=tuple(name for name in required if name not in run),
    )
