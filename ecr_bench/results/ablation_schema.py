"""What ``ablation.json`` holds. Accuracies and differences are on the 0..1 scale; intervals are 95 %."""

from __future__ import annotations

from typing import Any

from ecr_bench.arm import NamedArm
from ecr_bench.results.divergence import Stability
from ecr_bench.results.equal_size import EqualSize
from ecr_bench.results.schema import Record, Split


class Point(Record):
    """An arm of the board, at its place on the axis (or, for a reference, beside it)."""

    series: str
    label: str
    """The value on the axis; empty for a reference."""
    at: float | None
    arm: NamedArm
    split: Split
    task: str
    mean: float
    ci: tuple[float, float]
    n_items: int
    n_seeds: int
    covers: str


class Difference(Record):
    """A point minus a reference on the same items of unseen languages; not corrected for multiplicity."""

    series: str
    label: str
    reference: NamedArm
    task: str
    difference: float
    ci: tuple[float, float]


class AblationResult(Record):
    name: str
    label: str
    """What is varied."""
    log: bool
    numeric: bool
    precision: str
    points: list[Point]
    references: list[Point]
    chance: dict[str, float]
    """``split/task`` -> accuracy by chance."""
    differences: list[Difference]
    equal_sizes: list[EqualSize]
    stability: list[Stability] = []
    """How training went at each point, where traces were kept."""
    findings: list[str]
    notes: list[str]
    provenance: dict[str, Any]

    def panels(self) -> list[tuple[str, str]]:
        """(split, task) of each small plot: unseen before seen; ``all`` only where no task has a grain."""
        found = list(dict.fromkeys((str(point.split), point.task) for point in self.points))
        return [pair for pair in found if pair[1] != "all"] or found
