"""A probe's and a language model's answer, weighed on validation rows."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from rich.console import Console
from safetensors.torch import load_file

from ecr_bench.bundle.export import export
from ecr_bench.config import load
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.codes import RandomCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import read_records
from ecr_bench.evaluation.scorers import open_scorer
from ecr_bench.items.files import read_items
from ecr_bench.methods.fused import FILE, pooling_weights
from ecr_bench.methods.option_scores import option_scores
from ecr_bench.publish import publish
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.execute import execute
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from ecr_bench.types import Item


def items_of(sentences) -> list[Item]:
    choices = [("red", "blue lamp", "in the garden"), ("door", "open")]
    return [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", choices[i % 2], i % 2)
        for i, text in enumerate(sentences[:30])
    ]


def instances(items) -> list[Instance]:
    return [
        Instance("loglikelihood", dataclasses.asdict(item), (item.prompt, f" {c}"), i, metadata=("ecr_slot_en", n, 1))
        for n, item in enumerate(items)
        for i, c in enumerate(item.choices)
    ]


@pytest.mark.parametrize("count", [0, 3])
def test_options_have_the_scores_the_harness_gives_them(model, tokenizer, sentences, count):
    tokens = ControlTokens(len(tokenizer), 8)
    tokens.add_to(model, 0.02, seed=0)
    conditioner = Conditioner(tokenizer, RandomCodes(3, 8), tokens, 3) if count else Conditioner(tokenizer)
    items = items_of(sentences)
    wanted = EcrLM(model, tokenizer=tokenizer, conditioner=conditioner).loglikelihood(instances(items))
    model.train()
    found = torch.cat(option_scores(model, conditioner, items, 64))
    assert model.training
    np.testing.assert_allclose(found, [score for score, _ in wanted], atol=1e-4)


def pooled(noise_of_ours: float, noise_of_theirs: float) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    gold = torch.randint(3, (400,), generator=generator).tolist()
    truth = torch.nn.functional.one_hot(torch.tensor(gold), 4).double() * 2
    both = [list(truth + torch.randn(400, 4, generator=generator) * n) for n in (noise_of_ours, noise_of_theirs)]
    both = [[scores[: 3 + i % 2] for i, scores in enumerate(side)] for side in both]
    weights: list[float] = pooling_weights(*both, gold).tolist()
    return weights


def test_who_knows_more_weighs_more_and_who_knows_nothing_nothing():
    ours, theirs = pooled(1.0, 2.0)
    assert ours > 2 * theirs > 0
    ours, theirs = pooled(1.0, 60.0)
    assert theirs < 0.02 * ours


def test_weights_are_at_the_least_cross_entropy():
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(200, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    gold = (a + 0.5 * b + torch.randn(200, 3, generator=generator)).argmax(1)
    weights = pooling_weights(list(a), list(b), gold.tolist()).requires_grad_(True)
    torch.nn.functional.cross_entropy(weights[0] * a + weights[1] * b, gold).backward()
    assert weights.grad.abs().max() < 1e-4


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    quiet_libraries()
    cells = [{"method": "finetune"}, {"method": "finetune", "with": ["fusion"]}, {"method": "ecr", "with": ["fusion"]}]
    settings = {"teacher.name": "bag", "teacher.rows": 200, "scoring.items": 3, "geometry.measure": False}
    plan = make_plan(load("tiny").with_overrides({**settings, "cells": [*cells, {"method": "teacher-probe"}]}))
    out = tmp_path_factory.mktemp("runs")
    store = Store(out)
    execute(plan.stages, store, Console(file=io.StringIO()), Local(1))
    publish(plan, store, out / "tiny")
    return plan, store, out


def cell(plan, label):
    return next(cell for cell in plan.cells if cell.label == label)


@pytest.mark.slow
def test_records_hold_the_pooled_scores(done):
    plan, store, _ = done
    mine, plain, probe = (
        read_records(store.path(cell(plan, f"{name}-1x-s0").score) / "records.parquet").query("precision == 'fp32'")
        for name in ("finetune+fusion", "finetune", "teacher-probe")
    )
    weights = load_file(store.path(cell(plan, "finetune+fusion-1x-s0").train) / "model" / "fusion" / FILE)
    # two seen languages give `meaning` no validation item of its own
    assert set(weights) == {"intent", "slot"} < set(mine["task"])
    weights["meaning"] = torch.stack(list(weights.values())).mean(0)
    for (_, a), (_, b), (_, c) in zip(mine.iterrows(), plain.iterrows(), probe.iterrows(), strict=True):
        assert a["item_id"] == b["item_id"] == c["item_id"]
        lm, outside = weights[a["task"]].tolist()
        wanted = lm * np.array(b["loglikelihoods"]) + outside * np.array(c["loglikelihoods"])
        np.testing.assert_allclose(a["loglikelihoods"], wanted, atol=1e-4)
    assert not mine["correct"].equals(plain["correct"])


@pytest.mark.slow
def test_what_lies_beside_counts_once(done):
    plan, store, _ = done
    trained = {c.label: store.result(c.train) for c in plan.cells}
    probe = trained["teacher-probe-1x-s0"]
    assert trained["finetune-1x-s0"]["side_parameters"] == 0
    projection, weights = probe["side_parameters"], probe["parameters"] + 2 * 2
    assert trained["finetune+fusion-1x-s0"]["side_parameters"] == projection + weights
    beside = trained["ecr+fusion-1x-s0"]["side_parameters"] - weights
    assert beside > projection  # with the anchors, the projection once


@pytest.mark.slow
def test_other_precisions_are_pooled_too(done):
    plan, store, _ = done
    train, items = (store.path(getattr(cell(plan, "ecr+fusion-1x-s0"), role)) for role in ("train", "items"))
    held_out = read_items(items / "test")[:4]
    scorer = open_scorer(train / "model", "int8", "cpu", 2048)
    assert scorer.lm.fused.probe.parameters > 0
    assert len(scorer.lm.loglikelihood(instances(held_out))) == sum(len(item.choices) for item in held_out)
    assert load_tokenizer(train / "model")


@pytest.mark.slow
def test_no_bundle_pretends_to_hold_the_probe(done, tmp_path):
    with pytest.raises(UserError, match="scored together with a probe"):
        export(done[2], "tiny", "ecr+fusion-1x-s0", tmp_path / "bundle")


def test_without_validation_items_nothing_can_be_weighed(model, tokenizer):
    from ecr_bench.config import OptimiserConfig
    from ecr_bench.methods.method import Training
    from ecr_bench.methods.recipe import Recipe

    module = Recipe.of("finetune", ["fusion"]).module(model, OptimiserConfig(steps=1))
    with pytest.raises(UserError, match="no validation item"):
        module.prepare(Training(None, Conditioner(tokenizer), [], [], 64, 0, {}, {}))
