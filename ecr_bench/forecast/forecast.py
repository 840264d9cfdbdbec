"""What the stages of a plan that are not done will cost, together and each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ecr_bench.forecast.expected import TRAINING, Expected, expect
from ecr_bench.forecast.profile import Profile, finished_identity
from ecr_bench.forecast.schedule import Simulated, Workshop, longest_chain, simulate, with_costs
from ecr_bench.forecast.shape import Shapes, code_key
from ecr_bench.runner.store import Store
from ecr_bench.stages.identity import Identity
from ecr_bench.stages.stage import Stage


@dataclass(frozen=True)
class StageForecast:
    stage: Stage[Any]
    shape: str | None
    units: float
    expected: Expected

    @property
    def extra_tokens(self) -> int:
        """Control tokens that all rows of its training have."""
        settings = self.stage.settings
        reads, fit = (getattr(settings, name, None) for name in ("reads", "pretrain"))
        reads, fit = reads or settings, fit or getattr(settings, "finetune", None)
        tokens = getattr(reads, "control_tokens", None)
        return tokens.count * fit.steps * fit.batch_size if tokens is not None and fit is not None else 0


@dataclass(frozen=True)
class Forecast:
    """Of a plan in its store, as it is now."""

    stages: Mapping[str, Stage[Any]]
    to_run: Mapping[str, StageForecast]
    """By stage id."""
    workshop: Workshop
    profile: Profile = field(repr=False)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Of each stage that something is known of."""
        return {
            stage_id: one.expected.seconds for stage_id, one in self.to_run.items() if one.expected.seconds is not None
        }

    @property
    def unknown(self) -> list[StageForecast]:
        return [one for one in self.to_run.values() if not one.expected.known]

    @cached_property
    def memory(self) -> dict[str, int]:
        """Peak of each stage that something is known of, bytes."""
        return {stage_id: one.expected.memory for stage_id, one in self.to_run.items() if one.expected.memory}

    @property
    def least(self) -> bool:
        """Whether ``memory`` of any stage is a lower bound."""
        return any(one.expected.memory and one.expected.least for one in self.to_run.values())

    @property
    def main_memory(self) -> dict[str, int]:
        """As ``memory``, without stages whose peak is one of a GPU."""
        stages = {stage_id: one.stage for stage_id, one in self.to_run.items()}
        return {stage_id: peak for stage_id, peak in self.memory.items() if not _on_gpu(stages[stage_id], self.profile)}

    @cached_property
    def simulated(self) -> Simulated | None:
        """None where the seconds of a stage are unknown."""
        return None if self.unknown else self.simulated_with(self.workshop)

    def simulated_with(self, workshop: Workshop) -> Simulated:
        """Of the known stages, with other workers."""
        return simulate(self.stages, self.seconds, workshop, self.memory)

    @cached_property
    def critical_path(self) -> float | None:
        """Seconds; None where those of a stage are unknown."""
        return None if self.unknown else longest_chain(self.stages, self.seconds)

    @property
    def costed(self) -> dict[str, Stage[Any]]:
        """All stages, with what is known as their cost: the order of the run follows it."""
        return with_costs(self.stages, self.seconds)

    @property
    def flops(self) -> float | None:
        """Of all training; None where one was not counted."""
        found = [one.expected.flops for one in self.to_run.values() if one.stage.kind in TRAINING]
        trained = [one.stage for one in self.to_run.values() if trains(one.stage)]
        known = [flops for flops in found if flops is not None]
        return sum(known) if len(known) >= len(trained) else None

    @property
    def disk(self) -> int | None:
        """Bytes that the store grows by; None where it is not known of a stage."""
        found = [one.expected.disk for one in self.to_run.values()]
        return None if None in found else sum(size for size in found if size)

    @property
    def extra_tokens(self) -> int:
        return sum(one.extra_tokens for one in self.to_run.values())

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """Kind -> stages that are cached, stages to run."""
        every = Counter(stage.kind for stage in self.stages.values())
        left = Counter(one.stage.kind for one in self.to_run.values())
        return {kind: (count - left[kind], left[kind]) for kind, count in every.items()}


def trains(stage: Stage[Any]) -> bool:
    """Whether it trains a language model step by step."""
    if stage.kind == "base":
        return bool(stage.settings.pretrain.steps)
    return stage.kind == "train" and bool(stage.settings.recipe.recipe.trains_model)


def shapes_of(stages: Mapping[str, Stage[Any]], store: Store) -> Shapes:
    """Shapes of planned stages, whose inputs are planned too or finished."""

    def find(stage_id: str) -> Identity | None:
        return stages[stage_id].identity if stage_id in stages else finished_identity(store, stage_id)

    return Shapes(find)


def make_forecast(
    stages: Mapping[str, Stage[Any]], store: Store, profile: Profile, workshop: Workshop, shapes: Shapes | None = None
) -> Forecast:
    """Of the stages that ``store`` has not, by what ``profile`` has measured. ``shapes``: of an earlier forecast."""
    shapes, to_run = shapes or shapes_of(stages, store), {}
    for stage_id, stage in stages.items():
        if store.done(stage_id):
            continue
        shape, units = shapes.of(stage.identity), shapes.units(stage.identity)
        found = profile.of(shape, workshop.threads)
        expected = expect(found, units, code_key(stage.identity), _on_gpu(stage, profile))
        to_run[stage_id] = StageForecast(stage, shape, units, expected)
    return Forecast(stages, to_run, workshop, profile)


def _on_gpu(stage: Stage[Any], profile: Profile) -> bool:
    """Whether its peak of memory is one of a GPU."""
    return profile.hardware.gpu is not None and stage.identity.device == "cuda"
