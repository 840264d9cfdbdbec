"""What would not fit into memory is one line that names the size and the setting that makes it fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecr_bench.config import load
from ecr_bench.errors import UserError
from ecr_bench.forecast.expected import Expected
from ecr_bench.forecast.fits import check_fits
from ecr_bench.forecast.forecast import Forecast, StageForecast
from ecr_bench.forecast.profile import Profile
from ecr_bench.runner.plan import Plan, make_plan
from tests.helpers.forecasts import MACHINE, TWO

GB = 10**9


def forecast_of(plan: Plan, peaks: dict[str, int], **hardware: Any) -> Forecast:
    """One second each; ``peaks``: label -> bytes."""
    to_run = {
        stage.id: StageForecast(stage, "s", 1.0, Expected(seconds=1.0, memory=peaks.get(stage.label, 1)))
        for stage in plan.stages.values()
    }
    machine = MACHINE.model_copy(update=hardware)
    return Forecast(plan.stages, to_run, TWO, Profile(hardware=machine))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load("tiny"))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("train finetune-3x seed 0", ["9.0 GB", "8.0 GB", "--set sizes.3x.accumulate=2"]),
        ("pre-train base 1x", ["--set sizes.1x.accumulate=2"]),
        ("score finetune-3x seed 0", ["--set scoring.batch_tokens=4096"]),
        ("corpus intents", ["a machine with more"]),
    ],
)
def test_a_stage_that_is_too_large(plan, label, words):
    with pytest.raises(UserError) as caught:
        check_fits(forecast_of(plan, {label: 9 * GB}), plan)
    message = str(caught.value)
    assert all(word in message for word in ["tiny", label, *words]) and "\n" not in message


def test_a_batch_in_its_smallest_parts_is_not_cut_further():
    parts = {"sizes.1x.accumulate": 16, "cells": [{"method": "finetune"}]}
    for checkpointing, words in ((False, "sizes.1x.checkpointing=true"), (True, "a smaller size than 1x")):
        plan = make_plan(load("tiny").with_overrides({**parts, "sizes.1x.checkpointing": checkpointing}))
        with pytest.raises(UserError, match=words):
            check_fits(forecast_of(plan, {"train finetune-1x seed 0": 9 * GB}), plan)


def test_stages_that_fit_alone_and_not_at_once(plan):
    trained = {stage.label: 5 * GB for stage in plan.stages.values() if stage.kind == "train"}
    with pytest.raises(UserError, match=r"2 stages at once .* 10\.0 GB .* --workers 1"):
        check_fits(forecast_of(plan, trained), plan)
    check_fits(forecast_of(plan, trained, memory=10 * GB), plan)


def test_on_a_gpu_its_memory_holds_what_computes_there(plan):
    # nothing of this plan computes on a GPU here
    check_fits(forecast_of(plan, {"train finetune-3x seed 0": 9 * GB}, gpu="made up"), plan)


def test_an_engine_is_told_of_main_memory_and_not_of_a_gpus(plan, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    planned = make_plan(load("tiny"))
    told = forecast_of(planned, {}, gpu="made up").main_memory
    computes = {stage.id for stage in planned.stages.values() if stage.identity.device == "cuda"}
    assert computes and told == dict.fromkeys(planned.stages.keys() - computes, 1)
    assert forecast_of(plan, {}).main_memory == dict.fromkeys(plan.stages, 1)
