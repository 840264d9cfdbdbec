"""When the stages of a plan will run: the order of ``runner.execute`` on workers that share the cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ecr_bench.runner.execute import critical_path
from ecr_bench.stages.stage import Stage


@dataclass(frozen=True)
class Workshop:
    """What stages run on."""

    workers: int
    threads: int
    """Of each worker."""
    cores: int

    def speed(self, running: int) -> float:
        """Of each of so many stages at once, where they want more cores than there are."""
        return min(1.0, self.cores / (self.threads * running))


@dataclass(frozen=True)
class Simulated:
    seconds: float
    """From the first stage to the last."""
    memory: int
    """Bytes: the most that stages which run at once take together."""
    together: tuple[str, ...]
    """Those stages."""


def simulate(
    stages: Mapping[str, Stage[Any]],
    seconds: Mapping[str, float],
    workshop: Workshop,
    memory: Mapping[str, int] | None = None,
) -> Simulated:
    """Of the stages in ``seconds`` (id -> seconds alone on its cores); all others are done. ``memory``: bytes."""
    order = critical_path(with_costs(stages, seconds))
    waiting = sorted((stage_id for stage_id in stages if stage_id in seconds), key=lambda stage_id: -order[stage_id])
    running: dict[str, float] = {}
    now, most, together, sizes = 0.0, 0, tuple[str, ...](), memory or {}
    while waiting or running:
        for stage_id in list(waiting):
            if len(running) >= workshop.workers:
                break
            if not any(needed in waiting or needed in running for needed in stages[stage_id].inputs.values()):
                waiting.remove(stage_id)
                running[stage_id] = seconds[stage_id]
        if (taken := sum(sizes.get(stage_id, 0) for stage_id in running)) > most:
            most, together = taken, tuple(running)
        speed = workshop.speed(len(running))
        ahead = min(running.values())
        now += ahead / speed
        running = {stage_id: left - ahead for stage_id, left in running.items() if left > ahead}
    return Simulated(now, most, together)


def longest_chain(stages: Mapping[str, Stage[Any]], seconds: Mapping[str, float]) -> float:
    """Seconds of the dearest chain of stages that wait for each other: no number of workers is faster."""
    found: dict[str, float] = {}

    def until(stage_id: str) -> float:
        if stage_id not in found:
            before = max((until(needed) for needed in stages[stage_id].inputs.values()), default=0.0)
            found[stage_id] = before + seconds.get(stage_id, 0.0)
        return found[stage_id]

    return max(map(until, stages), default=0.0)


def with_costs(stages: Mapping[str, Stage[Any]], seconds: Mapping[str, float]) -> dict[str, Stage[Any]]:
    """``stages`` with measured costs where there are any; the others keep their rough guess."""
    return {
        stage_id: _with_cost(stage, seconds[stage_id]) if stage_id in seconds else stage
        for stage_id, stage in stages.items()
    }


def _with_cost(stage: Stage[Any], seconds: float) -> Stage[Any]:
    changed = replace(stage, cost=seconds)
    vars(changed)["identity"] = stage.identity  # as cached_property keeps it: nothing of it depends on the cost
    return changed
