"""Spikes, divergence and gradient norms on runs whose answer is known; every name in the registry."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ecr_bench.metrics.functional.stability import count_spikes, diverged, spike_score, spikes
from ecr_bench.metrics.registry import ASPECTS, METRICS, PLAIN
from ecr_bench.metrics.suite import stability_measures
from tests.helpers.vectors import normal


def falling(steps: int = 300, noise: float = 0.05, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return 1 + 3 * torch.exp(-torch.arange(steps) / 20) + noise * torch.randn(steps, generator=source)


def test_a_smooth_run_has_no_spike():
    for seed in range(5):
        assert float(spike_score(falling(seed=seed), falling(seed=seed + 50))) == 0


def test_spikes_are_found_where_they_were_put_and_runs_of_them_count_once():
    loss = falling()
    loss[100] += 2
    loss[200:204] += 2
    assert spikes(loss).nonzero().flatten().tolist() == [100, 200, 201, 202, 203]
    assert int(count_spikes(loss)) == 2
    norm = falling(seed=1)
    norm[203] += 2
    norm[250] += 2
    assert float(spike_score(loss, norm)) == pytest.approx(6 / 300)


def test_a_drop_is_no_spike_and_a_spike_does_not_hide_the_next():
    loss = falling()
    loss[150] -= 0.9
    assert not spikes(loss).any()
    loss[160:200:2] += 1.5
    assert spikes(loss).sum() == 20


def test_steps_without_a_past_are_not_judged_but_not_finite_ones_are():
    loss = falling()
    loss[5] = 100
    assert not spikes(loss).any()
    loss[7], loss[210] = math.nan, math.inf
    assert spikes(loss).nonzero().flatten().tolist() == [7, 210]


@pytest.mark.parametrize(
    ("loss", "norm", "failed"),
    [
        (falling(), falling(), 0),
        (falling().flip(0), falling(), 1),
        (torch.cat([falling(), torch.tensor([math.nan])]), falling(301), 1),
        (falling(), falling().where(torch.arange(300) != 9, torch.tensor(math.inf)), 1),
        (torch.tensor([2.0]), torch.tensor([1.0]), 0),
        # learns nothing, which is bad but no divergence
        (2 + 0.2 * torch.randn(300, generator=torch.Generator().manual_seed(4)), falling(), 0),
    ],
)
def test_divergence(loss, norm, failed):
    assert float(diverged(loss, norm)) == failed


def test_all_stability_measures_of_a_trace():
    loss, norm = falling(), torch.arange(300.0)
    loss[100] += 2
    found = {m.metric: m for m in stability_measures(loss, norm)}
    assert found["grad_norm_median"].value == 150 and found["grad_norm_max"].value == 299
    assert found["grad_norm_p95"].value == 285
    assert found["loss_spikes"].value == 1 and found["diverged"].value == 0
    assert {m.n for m in found.values()} == {300} and {m.null for m in found.values()} == {None}


@pytest.mark.parametrize("overflowed", [math.nan, math.inf])
def test_a_gradient_norm_that_overflowed_has_no_finite_maximum(overflowed):
    norm = torch.tensor([1.0, 2.0, overflowed])
    found = {m.metric: m.value for m in stability_measures(falling(3), norm)}
    assert found["grad_norm_median"] == 2 and found["grad_norm_max"] is None and found["diverged"] == 1


def test_spikes_of_a_run_too_short_to_judge_are_not_zero_but_unknown():
    found = {m.metric: m.value for m in stability_measures(falling(20), falling(20))}
    assert found["spike_score"] is None and found["loss_spikes"] is None and found["grad_norm_median"] is not None


ROWS: dict[str, list[Any]] = {
    "x": [normal(120, 6)],
    "x and y": [normal(120, 6), normal(120, 6) + normal(120, 6, seed=1)],
    "codes": [torch.arange(40)[:, None], torch.arange(40)[:, None]],
    "pairs": [normal(40, 6), normal(40, 6), torch.arange(40) // 20],
    "labelled": [normal(120, 6), torch.arange(120) % 3, torch.arange(120) // 3],
    "options": [[(normal(30, 4), normal(30, 4, seed=1))]],
    "judged": [normal(60, 6), normal(60, 6, seed=1), normal(60, seed=2), torch.arange(60) // 30],
    "trace": [falling(), falling()],
    "choices": [normal(40) > 0, torch.arange(40) % 4, torch.arange(40) // 20],
    "text": [normal(40).abs(), torch.arange(1, 41), torch.arange(40) // 20],
}
TAKES = {
    "intrinsic_dimension": "x", "isoscore": "x", "hubness": "x", "code_stability": "codes", "mexa": "pairs",
    "code_stability_trained": "codes", "retrieval": "pairs", "retrieval_to_pivot": "pairs",
    "retrieval_from_pivot": "pairs", "language_separability": "labelled", "rankc": "options", "sts_spearman": "judged",
    "bits_per_byte": "text", "acc_mutual_info": "choices", "acc_mutual_info_coarse": "choices",
    "acc_mutual_info_fine": "choices",
}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_measures_its_rows_and_what_chance_gives_of_them(name):
    assert METRICS.help[name] and ASPECTS[name]
    metric, plain = METRICS.get(name), name.removesuffix(PLAIN)
    rows = ROWS["trace" if ASPECTS[name] == "stability" else TAKES.get(plain, "x and y")]
    assert metric.value(*rows).isfinite()
    assert (metric.null is None) == (ASPECTS[name] in ("stability", "language modelling"))
    if metric.null is not None:
        mean, low, high = metric.null(*rows, permutations=5)
        assert low <= mean <= high
