"""What is refused of several devices before anything runs."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.config import load, parse
from ecr_bench.device import check_device
from ecr_bench.errors import UserError
from ecr_bench.methods.method import Modifier
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.runner import needs
from ecr_bench.runner.engine import check_gpus, resources_of
from ecr_bench.runner.plan import make_plan
from ecr_bench.sizes import Devices


def on(count, strategy="ddp", **more):
    return load("tiny").with_overrides({"sizes.1x.devices.count": count, "sizes.1x.devices.strategy": strategy, **more})


@pytest.mark.parametrize("made", ["base", "train"])
def test_more_devices_than_there_are(monkeypatch, made):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    stages = [stage for stage in make_plan(on(3)).stages.values() if stage.kind == made]
    assert {resources_of(stage).gpus for stage in stages} == {1, 3}
    check_gpus(stages, 3, "this machine")
    with pytest.raises(
        UserError, match=r"takes 3 GPUs, this machine has 2: ask for fewer \(devices\.count of its size\)"
    ):
        check_gpus(stages, 2, "this machine")


def test_processes_of_the_cpu_are_as_many_as_wanted():
    check_device(on(3))
    check_gpus(make_plan(on(3)).stages.values(), 0, "this machine")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes.1x.devices.count": 17}, r"sizes\.1x\.devices\.count: 17 devices share the 16 rows of pretrain"),
        ({"sizes.1x.accumulate": 9}, r"2 devices in 9 parts each share the 16 rows .* at least 18"),
        ({"finetune.dropout": "model"}, r"finetune\.dropout: model: .* allowed is none"),
        ({"sizes.1x.devices.strategy": "pipeline"}, r"sizes\.1x\.devices\.strategy: Input should be 'ddp' or 'fsdp2'"),
        ({"sizes.1x.devices.count": 0}, r"sizes\.1x\.devices\.count: .* greater than or equal to 1"),
    ],
)
def test_what_cannot_be_shared(changes, said):
    with pytest.raises(UserError, match=said):
        on(2, **changes)


def test_the_devices_are_part_of_what_a_stage_is():
    """Other numbers in rounding, so another stage; of the other size nothing changes."""
    ids = [
        {s.id for s in make_plan(load("tiny").with_overrides(o)).stages.values()}
        for o in ({}, {"sizes.1x.devices.strategy": "ddp"}, {"sizes.1x.devices.count": 2})
    ]
    assert ids[0] == ids[1]
    assert {name.split("/")[0] for name in ids[0] - ids[2]} >= {"base", "train", "score"}


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_memory_is_needed_by_each_gpu_or_by_all_processes(monkeypatch, kind):
    monkeypatch.setattr(needs, "device", lambda: kind)
    one, ddp, fsdp2 = (
        {need.key: need.bytes for need in needs.needs(exp, "1x")} for exp in (on(1), on(2), on(2, "fsdp2"))
    )
    copies = 2 if kind == "cpu" else 1
    assert ddp["sizes.1x"] == copies * one["sizes.1x"]
    assert fsdp2["sizes.1x"] == pytest.approx(copies * one["sizes.1x"] / 2, abs=2)
    assert one["pretrain.batch_size"] * (copies / 2) < ddp["pretrain.batch_size"] < copies * one["pretrain.batch_size"]


REFUSED = {
    "ddp": {"ecr+lora-int8"},
    "fsdp2": {"ecr+lora", "ecr+lora-int8", "ecr+refresh", "ecr+fusion", "soft-cue"},
}


@pytest.mark.parametrize("strategy", REFUSED)
def test_every_method_and_modifier_is_trained_so_or_refused(strategy):
    recipes = {name: Recipe.of(name) for name in METHODS}
    recipes |= {f"ecr+{name}": Recipe.of("ecr", [name]) for name in MODIFIERS}
    recipes["ecr+lora-int8"] = Recipe.of("ecr", ["lora"], {"lora": {"base": "int8"}})
    refused = set()
    for name, recipe in recipes.items():
        recipe.check_devices("1x", Devices())
        try:
            recipe.check_devices("1x", Devices(count=2, strategy=strategy))
        except UserError as error:
            refused.add(name)
            assert str(error).startswith(f"sizes.1x.devices: {strategy} on 2: ")
    assert refused == REFUSED[strategy]


def test_a_loss_from_outside_says_that_it_adds_up():
    class Mine(Modifier):
        """A loss of its own."""

        def loss(self, module, batch):
            return module.cross_entropy(batch)

    class Sum(Mine):
        """Which adds up."""

        adds_up = True

    two = Devices(count=2)
    with pytest.raises(UserError, match="mine has a loss of its own that does not say that it adds up"):
        Recipe(METHODS.get("finetune")("finetune"), (Mine("mine"),)).check_devices("1x", two)
    Recipe(METHODS.get("finetune")("finetune"), (Sum("sum"),)).check_devices("1x", two)


def test_a_plan_refuses_it():
    with pytest.raises(UserError, match=r"ecr\+refresh cannot be trained so: refresh looks at the whole model"):
        make_plan(
            parse(
                {
                    **on(2, "fsdp2").model_dump(mode="json"),
                    "cells": [{"method": "ecr", "with": ["refresh"]}],
                    "projection": {"kind": "hidden"},
                },
                "here",
            )
        )
