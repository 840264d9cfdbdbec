"""What ``ablation.json`` holds. Accuracies and differences are on the 0..1 scale; intervals are 95 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecr_bench.errors import UserError
from ecr_bench.io import read_json
from ecr_bench.report.divergence import Stability
from ecr_bench.report.equal_size import EqualSize
from ecr_bench.report.schema import Record, Split


class Point(Record):
    """An arm of the board, at its place on the axis (or, for a reference, beside it)."""

    series: str
    label: str
    """The value on the axis; empty for a reference."""
    at: float | None
    arm: str
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
    reference: str
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


def read_ablation(folder: Path) -> AblationResult | None:
    """``ablation.json`` of a run; None where the run is no ablation."""
    path = folder / "ablation.json"
    if not path.is_file():
        return None
    try:
        return AblationResult.model_validate(read_json(path))
    except ValidationError:
        raise UserError(f"{path}: not an ablation this version wrote; run it again") from None
