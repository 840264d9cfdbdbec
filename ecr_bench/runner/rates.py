"""A learning rate that is set for an arm is the one it is trained at; that of its size stands in place of a stage's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecr_bench.config import ArmSpec, Experiment
from ecr_bench.errors import UserError
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.grid import Grid
from ecr_bench.sizes import RATE, STAGES


def check_rates(experiment: Experiment, spec: ArmSpec, size: str) -> None:
    """UserError where a rate of a stage, set in an entry of ``cells`` or chosen for its arm, is another one than
    without it and nobody is trained at it."""
    chosen = experiment.chosen(spec, size)
    for stage in STAGES:
        if _gives_rate(chosen, stage) and (own := experiment.chosen_for(spec, size).sizes[size].learning_rate):
            raise _unread("tuned.set", stage, size, own)
        if _gives_rate(spec.set, stage) and (own := experiment.tuned_for(spec, size).sizes[size].learning_rate):
            without = spec.model_copy(update={"set": _without_rate(spec.set, stage)})
            rates = {_rate(experiment, each, size, stage) for each in (spec, without)}
            # whom it learns from may be trained at it, at another size
            if len(rates) > 1 and len({_training(experiment, each, size) for each in (spec, without)}) == 1:
                raise _unread("cells.set", stage, size, own)


def _unread(where: str, stage: str, size: str, own: float) -> UserError:
    return UserError(
        f"{where}: {stage}.{RATE}: size {size} has a learning rate of its own, {own}, in place of it: set "
        f"sizes.{size}.{RATE}, to null for this one to count"
    )


def _gives_rate(overrides: Mapping[str, Any], stage: str) -> bool:
    whole = overrides.get(stage)
    return f"{stage}.{RATE}" in overrides or (isinstance(whole, Mapping) and RATE in whole)


def _without_rate(overrides: Mapping[str, Any], stage: str) -> dict[str, Any]:
    return {
        key: {name: part for name, part in value.items() if name != RATE} if key == stage else value
        for key, value in overrides.items()
        if key != f"{stage}.{RATE}"
    }


def _rate(experiment: Experiment, spec: ArmSpec, size: str, stage: str) -> float:
    return float(getattr(experiment.tuned_for(spec, size), stage).learning_rate)


def _training(experiment: Experiment, spec: ArmSpec, size: str) -> str:
    """The stage that trains an arm."""
    local = experiment.tuned_for(spec, size)
    return Grid(local, {}, experiment, spec.set).train(Recipe.of_spec(spec, local.options), size, 0, "")
