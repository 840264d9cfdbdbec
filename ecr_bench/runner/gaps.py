"""What a run is published without, because stages of it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.runner.failures import Failures
from ecr_bench.runner.plan import Cell, Plan

ASIDE = {
    "geometry": "its geometry",
    "translations": "what its teacher knows of the corpus",
    "unconditional": "how likely it finds options without their text",
}
"""Stages of a cell that its accuracy does not rest on -> what is missing without them."""


class IncompleteError(UserError):
    """A run was published, but not all of it."""

    exit_code = 3


@dataclass(frozen=True)
class Gap:
    cell: str
    """Label."""
    what: str
    """Of the cell; empty where there is nothing of it."""
    reason: str
    """Stage and error, one line."""

    def __str__(self) -> str:
        return f"{self.cell}{f' ({self.what})' if self.what else ''}: {self.reason}"


def without_failed(plan: Plan, failures: Failures) -> tuple[Plan, list[Gap]]:
    """The cells of ``plan`` that were made, and what of it was not. The failure itself where no cell was made."""
    kept: list[Cell] = []
    gaps: list[Gap] = []
    for cell in plan.cells:
        needed = {role: stage_id for role, stage_id in vars(cell).items() if stage_id in plan.stages}
        broken = {role: failure for role, stage_id in needed.items() if (failure := failures.behind(str(stage_id)))}
        if lost := [failure for role, failure in broken.items() if role not in ASIDE]:
            gaps.append(Gap(cell.label, "", str(lost[0])))
            continue
        gaps += [Gap(cell.label, ASIDE[role], str(failure)) for role, failure in broken.items()]
        left: dict[str, Any] = {role: None if role in broken else getattr(cell, role) for role in ASIDE}
        kept.append(replace(cell, **left))
    if not kept:
        failures.raise_first()
    return replace(plan, cells=kept), gaps


def note_of(gaps: Sequence[Gap]) -> list[str]:
    """One note for a board; none where nothing is missing."""
    if not gaps:
        return []
    listed = "; ".join(map(str, gaps))
    return [f"Not all of this run could be made. What failed is in no mean, rank or comparison: {listed}."]


def refuse(gaps: Sequence[Gap]) -> None:
    """IncompleteError where anything is missing, for after the rest was published."""
    if gaps:
        more = f" and {len(gaps) - 1} more (board.md names all)" if len(gaps) > 1 else ""
        raise IncompleteError(f"published without {gaps[0]}{more}; the same command tries again what failed")
