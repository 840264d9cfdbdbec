"""Degenerate rows: a metric says that it cannot be measured, and why; it never gives what order or rounding decides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch

from ecr_bench.metrics.functional.bitext import mexa, retrieval_accuracy
from ecr_bench.metrics.functional.checks import NotMeasurable
from ecr_bench.metrics.functional.consistency import rank_consistency
from ecr_bench.metrics.functional.drift import linear_cka, procrustes_distance
from ecr_bench.metrics.functional.manifold import iso_score, two_nn
from ecr_bench.metrics.functional.neighbours import continuity, hubness, mutual_neighbours, trustworthiness
from ecr_bench.metrics.functional.probe import probe_accuracy
from ecr_bench.metrics.functional.similarity import correlation_with_people
from ecr_bench.metrics.suite import Taken, measure
from tests.helpers.vectors import normal

N = 120
OTHER = normal(N, 12, seed=99)
LANGUAGES, MEANINGS = torch.arange(N) % 3, torch.arange(N) // 3


def similarity(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    half = len(x) // 2
    return correlation_with_people(x[:half], x[half : 2 * half], other[:half, 0], torch.zeros(half, dtype=torch.int64))


Metric = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SHAPES: dict[str, Metric] = {
    "two_nn": lambda x, other: two_nn(x),
    "iso_score": lambda x, other: iso_score(x),
    "hubness": lambda x, other: hubness(x),
    "cka": linear_cka,
    "procrustes": procrustes_distance,
    "trustworthiness": trustworthiness,
    "continuity": continuity,
    "mutual": mutual_neighbours,
}
"""What says something of a cloud's shape: nothing can be said of a cloud without one."""
ALL: dict[str, Metric] = {
    **SHAPES,
    "mexa": lambda x, other: mexa(x, other[:, :1] * x + x),
    "retrieval": lambda x, other: retrieval_accuracy(x, other[:, :1] * x + x),
}


def rounded(rows: torch.Tensor) -> torch.Tensor:
    """Equal rows as float32 arithmetic leaves them: the last digits differ."""
    return (rows.double() * (1 + 1e-7 * normal(*rows.shape, seed=3))).float()


def duplicates(share: float, apart: float) -> torch.Tensor:
    """A cloud of three dimensions, a ``share`` of whose rows have a twin at ``apart`` times the usual distance."""
    base = normal(300, 3) @ normal(3, 32, seed=1)
    usual = torch.cdist(base, base).fill_diagonal_(torch.inf).amin(1).median()
    noise = torch.nn.functional.normalize(normal(int(300 * share), 32, seed=2), dim=1)
    return torch.cat([base, base[: len(noise)] + apart * usual * noise])


GRID = torch.cartesian_prod(*[torch.arange(1.0, 6)] * 3)[:N]
CLOUDS = {
    "zero": torch.zeros(N, 12),
    "constant": torch.full((N, 12), 3.7),
    "constant up to rounding": rounded(torch.ones(N, 1) * normal(1, 12).float()),
    "constant in half precision": rounded(torch.ones(N, 1) * normal(1, 12).float()).half(),
    "two points": torch.eye(12)[torch.arange(N) % 2],
    "one-hot codes": torch.eye(12)[torch.arange(N) % 12],
    "grid": GRID,
    "grid of one dimension": torch.arange(float(N))[:, None] * torch.ones(1, 12),
    "equally far apart": torch.eye(N),
    "rank one": normal(N, 1) * normal(1, 12, seed=1),
    "duplicated": normal(N // 2, 12).repeat(2, 1),
    "near-duplicates": (lambda x: torch.cat([x, x + 1e-6 * normal(N // 2, 12, seed=5)]))(normal(N // 2, 12)),
    "sound": normal(N, 12),
}


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("name", ALL)
def test_a_value_depends_on_no_order_of_the_rows(name: str, cloud: str) -> None:
    x, order = CLOUDS[cloud], torch.randperm(N, generator=torch.Generator().manual_seed(4))
    try:
        value = float(ALL[name](x, OTHER))
    except NotMeasurable:
        with pytest.raises(NotMeasurable):
            ALL[name](x[order], OTHER[order])
        return
    assert torch.isfinite(torch.tensor(value))
    assert float(ALL[name](x[order], OTHER[order])) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("cloud", [name for name in CLOUDS if name == "zero" or name.startswith("constant")])
@pytest.mark.parametrize("name", SHAPES)
def test_a_collapsed_model_has_no_shape(name: str, cloud: str) -> None:
    with pytest.raises(NotMeasurable, match="all rows are equal"):
        SHAPES[name](CLOUDS[cloud], OTHER)


@pytest.mark.parametrize("cloud", [name for name in CLOUDS if name == "zero" or name.startswith("constant")])
def test_a_collapsed_model_has_no_similarities_and_tells_no_language(cloud: str) -> None:
    with pytest.raises(NotMeasurable, match="are equal"):
        similarity(CLOUDS[cloud], OTHER)
    # rounding that follows the language must not be what the probe reads
    marked = CLOUDS[cloud] + 1e-8 * LANGUAGES[:, None] if cloud == "zero" else CLOUDS[cloud]
    accuracy = probe_accuracy(marked.to(CLOUDS[cloud].dtype), LANGUAGES, MEANINGS)
    assert cloud == "zero" or float(accuracy) == pytest.approx(1 / 3)


@pytest.mark.parametrize("share", [0.12, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("apart", [1e-6, 1e-3, 1e-2])
def test_two_nn_refuses_near_duplicates(share: float, apart: float) -> None:
    with pytest.raises(NotMeasurable, match=r"near-duplicates|equal their neighbour"):
        two_nn(duplicates(share, apart))


@pytest.mark.parametrize(("share", "apart"), [(0.0, 1.0), (0.02, 1e-3), (1.0, 1.0)])
def test_two_nn_bears_a_few_of_them_and_neighbours_that_are_none(share: float, apart: float) -> None:
    assert float(two_nn(duplicates(share, apart))) == pytest.approx(2.7, abs=0.7)


@pytest.mark.parametrize("n", [60, 200, 600])
@pytest.mark.parametrize("dimension", [2, 8])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("apart", [1e-3, 1e-1])
def test_whatever_share_is_doubled_the_dimension_is_near_or_not_said(
    n: int, dimension: int, share: float, apart: float
) -> None:
    """The rows lie in 32 dimensions, so that noise of a tenth in each is no neighbour any more."""
    cloud = torch.cat([normal(n, dimension), torch.zeros(n, 32 - dimension)], dim=1)
    doubled = cloud[: round(share * n)]
    with contextlib.suppress(NotMeasurable):
        found = float(two_nn(torch.cat([cloud, doubled + apart * normal(len(doubled), 32, seed=3)])))
        assert found == pytest.approx(float(two_nn(cloud)), rel=0.4)


def test_two_nn_refuses_distances_that_tie_and_more_dimensions_than_there_are() -> None:
    with pytest.raises(NotMeasurable, match="tie"):
        two_nn(GRID)
    with pytest.raises(NotMeasurable, match="exceeds the 3 dimensions"):
        two_nn(GRID + 1e-3 * normal(N, 3))


@pytest.mark.parametrize("n", [20, 40, 150, 600])
@pytest.mark.parametrize("dimension", [1, 3, 10, 40])
def test_two_nn_measures_sound_clouds_of_any_size(n: int, dimension: int) -> None:
    refused = 0
    for seed in range(40):
        try:
            two_nn(normal(n, dimension, seed=seed))
        except NotMeasurable:
            refused += 1
    assert refused <= 1


def test_neighbours_bear_a_few_ties() -> None:
    x = normal(N, 12)
    x[1] = x[0]
    assert float(mutual_neighbours(x, x)) == 1


def test_equal_scores_of_options_are_no_agreement() -> None:
    scores = normal(40, 4)
    tied = torch.where(torch.arange(40)[:, None] < 4, torch.zeros(40, 4), scores)
    with pytest.raises(NotMeasurable, match="options of 10 % of the items"):
        rank_consistency([(tied, scores)])
    tied[:3] = scores[:3]
    assert float(rank_consistency([(tied, scores)])) <= 1


@pytest.mark.parametrize(("cloud", "reason"), [("constant", "all rows are equal"), ("grid", "tie")])
def test_the_reason_travels_with_the_measure(cloud: str, reason: str) -> None:
    found = measure("intrinsic_dimension", [CLOUDS[cloud]], Taken(), N)
    assert found.value is None and found.null is None and reason in found.reason
    broken = CLOUDS["sound"].clone()
    broken[3, 1] = torch.nan
    found = measure("isoscore", [broken], Taken(), N)
    assert found.value is None and "not all numbers are finite" in found.reason
    sound = measure("isoscore", [CLOUDS["sound"]], Taken(null=False), N)
    assert sound.value is not None and sound.reason == ""
