"""What ``ablation.json`` holds. Accuracies and differences are on the 0..1 scale; intervals are 95 %."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecr_bench.arm import Arm, NamedArm
from ecr_bench.results.divergence import Stability
from ecr_bench.results.equal_size import EqualSize
from ecr_bench.results.schema import Group, Record
from ecr_bench.runner.ablation import Ablation, Place


class Point(Record):
    """An arm of the board, at its place on the axis (or, for a reference, beside it)."""

    series: str
    label: str
    """The value on the axis; empty for a reference."""
    at: float | None
    arm: NamedArm
    group: Group
    task: str
    mean: float
    ci: tuple[float, float]
    n_items: int
    n_seeds: int
    covers: str


class Spot(Record):
    """Where an arm stands: on which line, at which value."""

    series: str
    label: str
    """Of the value."""
    at: float | None
    arm: NamedArm


class PointDifference(Record):
    """A point minus a reference on the same items of unseen languages; not corrected for multiplicity."""

    series: str
    label: str
    reference: NamedArm
    task: str
    difference: float
    ci: tuple[float, float]


class LineDifference(Record):
    """A line minus another at the same value, on the same items of unseen languages; not corrected for multiplicity."""

    series: str
    minus: str
    """The other line."""
    label: str
    """Of the value."""
    task: str
    difference: float
    ci: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """What was varied, and which arms stand where."""

    name: str
    label: str
    """What is varied."""
    log: bool
    numeric: bool
    by_size: bool
    """The axis is the model size."""
    places: tuple[Place, ...]
    references: tuple[Arm, ...]

    @classmethod
    def planned(cls, ablation: Ablation) -> Layout:
        axis = ablation.axis
        places = tuple(ablation.places)
        return cls(
            ablation.experiment.name, axis.label, axis.log, axis.numeric, axis.by_size, places, ablation.references
        )

    @classmethod
    def of(cls, result: AblationResult) -> Layout:
        """That of a finished ablation."""
        places = [Place(spot.series, spot.label, spot.at, spot.arm) for spot in result.places]
        references = dict.fromkeys(p.arm for p in result.references)
        return cls(
            result.name, result.label, result.log, result.numeric, result.by_size, tuple(places), tuple(references)
        )


class AblationResult(Record):
    """What varying one setting changes."""

    name: str
    label: str
    """What is varied."""
    log: bool
    numeric: bool
    by_size: bool
    """The axis is the model size."""
    precision: str
    places: list[Spot]
    points: list[Point]
    """Of the places whose arms have scores: one that diverged has none."""
    references: list[Point]
    chance: dict[str, float]
    """``group/task`` -> accuracy by chance."""
    differences: list[PointDifference]
    between_lines: list[LineDifference] = []
    equal_sizes: list[EqualSize]
    stability: list[Stability] = []
    """How training went at each point, where traces were kept."""
    findings: list[str]
    notes: list[str]
    provenance: dict[str, Any]

    def panels(self) -> list[tuple[str, str]]:
        """(group, task) of each small plot: unseen before seen; ``all`` only where no task has a grain."""
        found = list(dict.fromkeys((str(point.group), point.task) for point in self.points))
        return [pair for pair in found if pair[1] != "all"] or found
