"""What the shipped experiments say of themselves in comments and labels."""

from __future__ import annotations

import pytest

from ecr_bench.config import load, shipped
from ecr_bench.runner.ablation import load_ablation
from ecr_bench.statistics.by_seed import MIN_SEEDS

ABLATIONS = sorted(path.stem.removeprefix("ablation-") for path in shipped("baselines").glob("ablation-*.yaml"))


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_point_of_an_ablation_has_seeds_for_an_interval(name: str) -> None:
    assert all(len(spec.seeds) >= MIN_SEEDS for spec in load_ablation(name, {}).experiment.cells)


def test_two_refreshes_are_one_after_each_pass_but_the_last() -> None:
    finetune, tasks = (exp := load_ablation("refresh", {}).experiment).finetune, exp.tasks
    labelled = finetune.batch_size * (1 - finetune.text_share)
    assert finetune.steps * labelled / (finetune.items * len(tasks)) == pytest.approx(3, abs=0.02)


def test_rates_of_larger_sizes_are_looked_for_at_the_budget_they_are_used_at() -> None:
    tuning, used = load("tuning-size"), load_ablation("size", {}).experiment
    assert (tuning.pretrain.steps, tuning.finetune.steps) == (used.pretrain.steps, used.finetune.steps)


@pytest.mark.parametrize("size", ["10x", "30x"])
def test_rates_of_larger_sizes_are_inside_what_was_looked_at(size: str) -> None:
    key = f"sizes.{size}.learning_rate"
    tried = sorted(spec.set[key] for spec in load("tuning-size").cells if key in spec.set)
    assert load_ablation("size", {}).experiment.sizes[size].learning_rate in tried[1:-1]


@pytest.mark.parametrize("name", ["messages", "sib200"])
def test_a_rival_on_other_sentences_has_what_was_chosen_for_it(name: str) -> None:
    assert load(name).options["embedding-distillation"] == load("rivals").options["embedding-distillation"]


def test_budgets_have_what_was_chosen_at_the_same_steps() -> None:
    long = load("long")
    chosen = {
        "pretrain.clip": long.pretrain.clip, "finetune.clip": long.finetune.clip,
        "sizes.3x.learning_rate": long.sizes["3x"].learning_rate,
    }  # fmt: skip
    specs = [
        spec
        for spec in load_ablation("budget", {}).experiment.cells
        if spec.set["pretrain.steps"] >= long.pretrain.steps
    ]
    assert specs and all(spec.set.items() >= chosen.items() for spec in specs)
