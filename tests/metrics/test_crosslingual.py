"""Translations, rankings, probes and similarity against scikit-learn, scipy and cases with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecr_bench.metrics.functional.bitext import (
    both_ways_accuracy,
    both_ways_accuracy_draws,
    mexa,
    mexa_draws,
    retrieval_accuracy,
    retrieval_accuracy_draws,
)
from ecr_bench.metrics.functional.checks import NotMeasurable, TooFewRows
from ecr_bench.metrics.functional.consistency import rank_consistency, rank_consistency_null, ranking_consistency
from ecr_bench.metrics.functional.correlation import spearman
from ecr_bench.metrics.functional.permutation import random_orders
from ecr_bench.metrics.functional.probe import probe_accuracy, probe_accuracy_null
from ecr_bench.metrics.functional.similarity import correlation_with_people, correlation_with_people_null
from ecr_bench.metrics.functional.strata import mean_over_strata_null
from ecr_bench.metrics.metric import BOTH_WAYS, MEXA, RETRIEVAL
from tests.helpers.vectors import normal


def mexa_by_hand(source: torch.Tensor, target: torch.Tensor) -> float:
    """Kargaran et al. 2024 written out with loops."""
    n, hits = len(source), 0
    c = [[float(torch.cosine_similarity(a, b, dim=0)) for b in target] for a in source]
    for i in range(n):
        rivals = [c[i][j] for j in range(n) if j != i] + [c[j][i] for j in range(n) if j != i]
        hits += c[i][i] > max(rivals)
    return hits / n


def test_mexa_and_retrieval_on_identical_permuted_and_noisy_sets():
    x = normal(12, 6)
    derangement = torch.arange(12).roll(1)
    for function in (mexa, retrieval_accuracy):
        assert float(function(x, 3 * x)) == 1
        assert float(function(x, x[derangement])) == 0
    y = x + 1.2 * normal(12, 6, seed=1)
    assert 0 < float(mexa(x, y)) < 1
    assert float(mexa(x, y)) == pytest.approx(mexa_by_hand(x, y))
    assert float(mexa(x, y)) <= min(float(retrieval_accuracy(x, y)), float(retrieval_accuracy(y, x)))
    cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(y).T
    assert float(retrieval_accuracy(x, y)) == pytest.approx(
        float((cosines.argmax(1) == torch.arange(12)).double().mean())
    )


def test_a_model_that_maps_all_texts_to_one_point_finds_nothing():
    collapsed = torch.ones(10, 4)
    assert float(mexa(collapsed, collapsed)) == float(retrieval_accuracy(collapsed, collapsed)) == 0


@pytest.mark.parametrize(
    ("score", "draws"),
    [
        (mexa, mexa_draws),
        (retrieval_accuracy, retrieval_accuracy_draws),
        (both_ways_accuracy, both_ways_accuracy_draws),
    ],
)
def test_draws_are_the_score_of_permuted_pairs(score, draws):
    x, y = normal(9, 4), normal(9, 4) + normal(9, 4, seed=1)
    slow = [float(score(x, y[order])) for order in random_orders(9, 8, 5)]
    # row i is said to be translated by row order[i] of the target
    assert draws(x, y, 8, 5).tolist() == pytest.approx(slow)


def test_bitext_metrics_are_means_over_language_pairs_with_chance_as_null():
    x = normal(30, 5)
    y = torch.cat([x[:20], x[20:].flip(0)])
    groups = torch.tensor([0] * 20 + [1] * 10)
    for metric in (MEXA, RETRIEVAL, BOTH_WAYS):
        assert metric.null is not None
        assert float(metric.value(x, y, groups)) == pytest.approx((1 + 0) / 2)
        mean, low, high = metric.null(x, y, groups)
        assert mean == pytest.approx((1 / 20 + 1 / 10) / 2, abs=0.02) and low <= mean <= high < 0.3


def test_a_language_with_one_pair_is_left_out_and_nothing_gives_nothing():
    for ask in (MEXA.value, MEXA.null):
        with pytest.raises(TooFewRows, match="has 2 rows"):
            ask(normal(1, 3), normal(1, 3), torch.zeros(1, dtype=torch.int64))


def rankc_by_hand(first: list[float], second: list[float]) -> float:
    n = len(first)
    orders = [sorted(range(n), key=lambda i, s=s: -s[i]) for s in (first, second)]
    weights = [math.exp(n - j) for j in range(1, n + 1)]
    shares = [len(set(orders[0][:j]) & set(orders[1][:j])) / j for j in range(1, n + 1)]
    return sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)


def test_rankc_equals_the_formula_and_its_ends():
    first, second = normal(20, 4), normal(20, 4, seed=1)
    wanted = [rankc_by_hand(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert ranking_consistency(first, second).tolist() == pytest.approx(wanted)
    assert ranking_consistency(first, 2 * first + 1).tolist() == pytest.approx([1] * 20)
    # two options, opposite: they agree only on the whole list
    assert float(ranking_consistency(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]))) == pytest.approx(
        1 / (1 + math.e)
    )


def test_rankc_takes_items_with_different_numbers_of_options():
    same, other = normal(30, 3), normal(60, 4)
    blocks = [(same, same), (other[:30], other[30:])]
    wanted = (30 + float(ranking_consistency(other[:30], other[30:]).sum())) / 60
    assert float(rank_consistency(blocks)) == pytest.approx(wanted)
    mean, low, high = rank_consistency_null(blocks)
    chance = [rankc_by_hand(a, b) for n in (3, 4) for a, b in np.random.default_rng(0).normal(size=(2000, 2, n))]
    assert mean == pytest.approx(np.mean(chance), abs=0.03) and low < mean < high < wanted


def test_the_probe_agrees_with_scikit_learn():
    labels, groups = torch.arange(90) % 3, torch.arange(90) // 3
    x = normal(90, 12) + torch.nn.functional.one_hot(labels, 12).double() * 1.2
    pipeline = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
    predicted = cross_val_predict(pipeline, x.numpy(), labels.numpy(), groups=groups.numpy(), cv=GroupKFold(5))
    wanted = balanced_accuracy_score(labels.numpy(), predicted)
    assert 0.5 < wanted < 1
    assert float(probe_accuracy(x, labels, groups)) == pytest.approx(wanted)


def test_the_probe_never_sees_a_meaning_on_both_sides():
    """Vectors that name the meaning and nothing else: a probe with the meaning in both folds would be right."""
    meaning = torch.arange(40).repeat_interleave(4)
    labels = meaning % 2
    x = torch.nn.functional.one_hot(meaning, 40).double()
    assert float(probe_accuracy(x, labels, meaning)) < 0.7
    rows = torch.arange(160)
    assert float(probe_accuracy(x, labels, rows)) == 1  # cut by row instead


def test_the_null_of_the_probe_is_chance():
    labels, groups = torch.arange(120) % 4, torch.arange(120) // 4
    x = normal(120, 6) + 5 * torch.nn.functional.one_hot(labels, 6)
    mean, low, high = probe_accuracy_null(x, labels, groups)
    assert mean == pytest.approx(0.25, abs=0.03) and low < 0.25 < high < float(probe_accuracy(x, labels, groups))
    slow = [float(probe_accuracy(x, labels[order], groups)) for order in random_orders(120, 5, 0)]
    assert probe_accuracy_null(x, labels, groups, permutations=5)[0] == pytest.approx(np.mean(slow))


def test_too_few_meanings_for_the_folds_is_an_error():
    with pytest.raises(ValueError, match="5 clusters"):
        probe_accuracy(normal(8, 3), torch.arange(8) % 2, torch.arange(8) // 2)


def test_spearman_agrees_with_scipy_with_ties():
    a, b = normal(80), (normal(80) + normal(80, seed=1)).round()
    assert float(spearman(a, b)) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    for constant, pairs, reason in ((torch.ones(5), 5, "are equal"), (normal(2), 2, "at least 3 pairs")):
        with pytest.raises(NotMeasurable, match=reason):
            spearman(constant, normal(pairs, seed=1))


def test_similarity_is_the_mean_over_languages_of_spearman_of_cosines():
    first, second, wanted = normal(60, 8), normal(60, 8, seed=1), normal(60, seed=2)
    groups = torch.arange(60) // 30
    cosines = torch.cosine_similarity(first, second, dim=1)
    each = [scipy.stats.spearmanr(cosines[groups == g], wanted[groups == g]).statistic for g in (0, 1)]
    assert float(correlation_with_people(first, second, wanted, groups)) == pytest.approx(np.mean(each))
    mean, low, high = correlation_with_people_null(first, second, wanted, groups, permutations=400)
    # standard error of the mean of two Spearman correlations over 30 pairs
    assert mean == pytest.approx(0, abs=0.03) and high == pytest.approx(1.96 / math.sqrt(2 * 29), abs=0.06) and low < 0


def test_the_null_of_no_groups_is_not_measurable():
    with pytest.raises(TooFewRows):
        mean_over_strata_null(mexa_draws, normal(2, 3), normal(2, 3), torch.arange(2))
