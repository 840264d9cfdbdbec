"""How precisions and surface baselines are ordered on a board, and what an arm costs over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from ecr_bench.arm import Arm
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.schema import Group

PRECISIONS = ("fp32", "bf16", "int8", "nf4")
GROUPS: tuple[Group, ...] = get_args(Group)
COSTS = ("parameters", "side_parameters", "bytes", "side_bytes", "ms_per_item")


def costs_of(cells: Sequence[CellCosts], arm: Arm, precision: str) -> dict[str, float | None]:
    """Mean of each measured number over the seeds of an arm; None where nothing was measured."""
    mine = [cell for cell in cells if cell.arm == arm and cell.precision == precision]
    result: dict[str, float | None] = {}
    for key in COSTS:
        values = [value for cell in mine if (value := getattr(cell, key)) is not None]
        mean = sum(values) / len(values) if values else None
        result[key] = mean if mean is None or key == "ms_per_item" else round(mean)
    return result


def ordered_precisions(names: Iterable[str]) -> list[str]:
    """Known precisions in falling order, then others by name."""
    found = set(names)
    return [p for p in PRECISIONS if p in found] + sorted(found - set(PRECISIONS))


def aggregate_baselines(
    baselines: dict[str, dict[str, dict[str, float]]], grains: dict[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Add ``coarse``, ``fine`` and ``all`` (mean over tasks) where the surface baseline exists for every task."""
    result = {group: dict(tasks) for group, tasks in baselines.items()}
    for tasks in result.values():
        single_tasks = {task: numbers for task, numbers in tasks.items() if task in grains}
        for mean in ("coarse", "fine", "all"):
            members = [numbers for task, numbers in single_tasks.items() if mean in ("all", grains[task])]
            names = set.intersection(*(set(m) for m in members)) if members else set()
            if names:
                tasks[mean] = {name: sum(m[name] for m in members) / len(members) for name in sorted(names)}
    return result
