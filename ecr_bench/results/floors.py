"""Tasks on which nobody who reads is above chance: they say nothing, and hide what the others say."""

from __future__ import annotations

from collections.abc import Iterable

from ecr_bench.arm import Arm, Role
from ecr_bench.results.schema import ABOVE_FLOOR
from ecr_bench.results.standings import Standings
from ecr_bench.statistics.panel import GRAINS, Panel


def floors_of(panel: Panel, arms: Iterable[Arm], precision: str) -> tuple[str, ...]:
    """Single tasks on which the interval of every arm that reads text with a language model reaches chance, at
    ``precision``; none where no such arm was scored."""
    standings = Standings(panel)
    readers = [arm for arm in arms if arm.role is not Role.MODEL_CONTROL and panel.has(str(arm), precision)]
    return tuple(
        task
        for task in panel.single_tasks
        if readers and all(standings.of(arm, precision, task).reaches_chance for arm in readers)
    )


def define_means_above(panel: Panel, floors: Iterable[str]) -> None:
    """Beside each mean that holds a task at the floor, let the mean of its other tasks be asked for, if any."""
    below = set(floors)
    for name in [*(grain for grain in GRAINS if grain in panel.tasks), "all"]:
        single_tasks = [panel.single_tasks[i] for i in panel.single_tasks_of(name)]
        kept = [task for task in single_tasks if task not in below]
        if kept and len(kept) < len(single_tasks):
            panel.define(name + ABOVE_FLOOR, kept)
