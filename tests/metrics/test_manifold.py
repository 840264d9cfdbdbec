"""TwoNN, IsoScore and neighbourhoods against scikit-learn, scipy and cases with a known answer."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.neighbors import NearestNeighbors

from ecr_bench.metrics.functional.checks import TooFewRows
from ecr_bench.metrics.functional.manifold import iso_score, iso_score_null, two_nn, two_nn_null
from ecr_bench.metrics.functional.neighbours import (
    continuity,
    continuity_null,
    hubness,
    hubness_null,
    mutual_neighbours,
    mutual_neighbours_null,
    trustworthiness,
    trustworthiness_null,
    unit_rows,
)
from tests.helpers.vectors import normal, rotation


@pytest.mark.parametrize(("dimension", "tolerance"), [(1, 0.15), (2, 0.25), (5, 0.8)])
def test_two_nn_finds_the_dimension_of_a_uniform_manifold(dimension, tolerance):
    flat = torch.rand(1500, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = torch.cat([flat, torch.zeros(1500, 20 - dimension, dtype=torch.float64)], 1) @ rotation(20) * 50 + 3
    assert float(two_nn(inside)) == pytest.approx(dimension, abs=tolerance)


def test_two_nn_sees_that_a_curved_sheet_is_two_dimensional():
    u = torch.rand(1500, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    angle = 1.5 * torch.pi * (1 + 2 * u[:, 0])
    roll = torch.stack([angle * angle.cos(), 20 * u[:, 1], angle * angle.sin()], 1)
    assert float(two_nn(roll)) == pytest.approx(2, abs=0.25)
    # with the same covariance and no other structure it fills three
    mean, low, _ = two_nn_null(roll, permutations=10)
    assert mean > 2.5 and low > float(two_nn(roll))


def test_two_nn_counts_equal_rows_once_and_needs_twenty():
    x = normal(60, 3)
    assert float(two_nn(torch.cat([x, x]))) == pytest.approx(float(two_nn(x)))
    with pytest.raises(TooFewRows, match="20 distinct rows, got 19"):
        two_nn(torch.cat([x[:19], x[:19]]))


def test_iso_score_at_both_ends_and_between():
    directions = torch.cat([torch.eye(6), -torch.eye(6)])
    assert float(iso_score(directions)) == pytest.approx(1)
    line = normal(50, 1) * torch.ones(1, 6)
    assert float(iso_score(line)) == pytest.approx(0, abs=1e-9)
    # k of n dimensions used alike: the paper's property that the score is (k - 1) / (n - 1)
    used = torch.cat([torch.eye(6)[:3], -torch.eye(6)[:3]])
    assert float(iso_score(used)) == pytest.approx(2 / 5)


def test_iso_score_ignores_rotation_scale_and_shift_and_works_with_few_rows():
    x = normal(50, 8) * torch.arange(1, 9)
    assert float(iso_score(5 * x @ rotation(8) - 2)) == pytest.approx(float(iso_score(x)))
    assert 0 < float(iso_score(normal(10, 30))) < 1


def test_iso_score_null_undoes_shared_directions():
    x = normal(200, 1) + 0.1 * normal(200, 5, seed=1)
    _, low, _ = iso_score_null(x, permutations=20)
    assert float(iso_score(x)) < 0.1 < 0.7 < low


@pytest.mark.parametrize("k", [3, 12])
def test_trustworthiness_agrees_with_scikit_learn_and_continuity_is_its_mirror(k):
    teacher = normal(80, 10)
    student = teacher[:, :4] + normal(80, 4, seed=1)
    a, b = unit_rows(teacher).numpy(), unit_rows(student).numpy()
    assert float(trustworthiness(teacher, student, k)) == pytest.approx(sklearn_trustworthiness(a, b, n_neighbors=k))
    assert float(continuity(teacher, student, k)) == pytest.approx(sklearn_trustworthiness(b, a, n_neighbors=k))


def test_nulls_of_neighbourhoods_are_what_unrelated_spaces_give():
    teacher = normal(100, 6)
    for function, null, chance in (
        (trustworthiness, trustworthiness_null, 0.5),
        (continuity, continuity_null, 0.5),
        (mutual_neighbours, mutual_neighbours_null, 10 / 99),
    ):
        mean, low, high = null(teacher, teacher)
        assert mean == pytest.approx(chance, abs=0.03)
        assert float(function(teacher, teacher)) == pytest.approx(1) and high < 0.9
        unrelated = [float(function(teacher, normal(100, 6, seed=s))) for s in range(1, 21)]
        assert sum(low <= value <= high for value in unrelated) >= 15


def test_permuted_neighbours_are_those_of_the_permuted_cloud():
    """The null relabels neighbours instead of computing them again."""
    teacher, student = normal(40, 5), normal(40, 5, seed=1)
    from ecr_bench.metrics.functional.permutation import random_orders, summarise

    slow = [trustworthiness(teacher, student[order], 4) for order in random_orders(40, 6, 3)]
    assert trustworthiness_null(teacher, student, 4, permutations=6, seed=3) == summarise(torch.stack(slow))
    shared = [mutual_neighbours(teacher, student[order], 4) for order in random_orders(40, 6, 3)]
    assert mutual_neighbours_null(teacher, student, 4, 6, 3) == summarise(torch.stack(shared))


def test_mutual_neighbours_agree_with_scikit_learn():
    x, y = normal(60, 5), normal(60, 5)[:, :3] + normal(60, 3, seed=1)
    found = [
        NearestNeighbors(n_neighbors=8, metric="cosine").fit(part).kneighbors(return_distance=False) for part in (x, y)
    ]
    share = sum(len(set(a) & set(b)) for a, b in zip(*found, strict=True)) / (60 * 8)
    assert float(mutual_neighbours(x, y, 8)) == pytest.approx(share)


def test_hubness_is_scipys_skewness_of_scikit_learns_counts():
    x = normal(120, 30) + 1
    neighbours = NearestNeighbors(n_neighbors=10, metric="cosine").fit(x).kneighbors(return_distance=False)
    counts = torch.bincount(torch.tensor(neighbours).flatten(), minlength=120)
    assert float(hubness(x)) == pytest.approx(scipy.stats.skew(counts.numpy()))


def test_a_few_rows_that_are_near_everybody_are_hubs_and_a_ring_has_none():
    ring = torch.linspace(0, 2 * torch.pi, 61, dtype=torch.float64)[:60]
    assert float(hubness(torch.stack([ring.cos(), ring.sin()], 1), k=4)) == 0
    # six rows in the middle of the cone are near everybody, and everybody else is alone in a direction of its own
    cone = torch.cat([torch.ones(6, 60) + 0.01 * normal(6, 60), torch.ones(60, 60) + 6 * torch.eye(60)])
    assert float(hubness(cone, k=5)) > 2.5


def test_the_null_of_hubness_holds_a_cloud_with_nothing_but_its_covariance():
    cloud = normal(150, 12) * torch.arange(1, 13) @ rotation(12) + 2
    _, low, high = hubness_null(cloud, permutations=100)
    assert low < float(hubness(cloud)) < high


def test_too_few_rows_for_the_neighbours_is_an_error():
    for function in (trustworthiness, continuity, mutual_neighbours):
        with pytest.raises(ValueError, match="more than 20 rows"):
            function(normal(20, 3), normal(20, 3))
    with pytest.raises(ValueError, match="k must be"):
        hubness(normal(20, 3), k=0)
