"""Who is next to whom: neighbourhoods of one cloud, and of two clouds of the same rows.

Nearness is the cosine throughout, as in retrieval; among unit vectors it orders as the Euclidean distance does.
"""

from __future__ import annotations

import torch

from ecr_bench.metrics.functional.checks import check_neighbours, check_rows, check_spread, check_ties
from ecr_bench.metrics.functional.permutation import (
    PERMUTATIONS,
    Null,
    null_of_pairing,
    null_of_structure,
)

K = 10


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    """(N, d) float64, rows of length 1 (zero rows stay)."""
    return torch.nn.functional.normalize(x.double(), dim=1)


def cosines(x: torch.Tensor) -> torch.Tensor:
    """(N, N) cosines with -inf on the diagonal."""
    x = unit_rows(x)
    return (x @ x.T).fill_diagonal_(-torch.inf)


def nearest(x: torch.Tensor, k: int = K) -> torch.Tensor:
    """Indices (N, k) of the k nearest other rows, nearest first.

    Raises NotMeasurable for rows that are all equal, and where ties decide who is among the k nearest.
    """
    return _nearness(x, k).topk(k, dim=1).indices


def _nearness(x: torch.Tensor, k: int) -> torch.Tensor:
    """Cosines of rows whose k nearest are well defined."""
    check_neighbours(len(x), k)
    check_spread(x)
    found = cosines(x)
    check_ties(found, k)
    return found


def _ranks(x: torch.Tensor, k: int) -> torch.Tensor:
    """(N, N): entry i, j is 1 for the row nearest to i, 2 for the next, and so on; checked as ``nearest``."""
    order = _nearness(x, k).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(1, len(x) + 1).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _penalty(ranks: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
    n, k = neighbours.shape
    excess = (ranks.gather(1, neighbours) - k).clamp(min=0).sum().double()
    return 1 - 2 * excess / (n * k * (2 * n - 3 * k - 1))


def trustworthiness(original: torch.Tensor, embedded: torch.Tensor, k: int = K) -> torch.Tensor:
    """Whether rows that are near in ``embedded`` are near in ``original`` (Venna & Kaski 2001, ICANN).

    Neighbours in ``embedded`` that are not among the k nearest in ``original`` are charged by their rank there.

    Args:
        original: (N, d), the space that is believed (the teacher's).
        embedded: (N, e), the space that is judged.
        k: neighbours, fewer than N / 2.

    Returns:
        scalar float64, 1 when no neighbour is false, about 0.5 for unrelated spaces.
    """
    check_rows(original, embedded)
    return _penalty(_ranks(original, k), nearest(embedded, k))


def continuity(original: torch.Tensor, embedded: torch.Tensor, k: int = K) -> torch.Tensor:
    """Whether rows that are near in ``original`` stay near in ``embedded`` (Venna & Kaski 2001): roles exchanged."""
    return trustworthiness(embedded, original, k)


def trustworthiness_null(
    original: torch.Tensor, embedded: torch.Tensor, k: int = K, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null: rows of ``embedded`` are permuted, so that row i describes another text."""
    check_rows(original, embedded)
    ranks, neighbours = _ranks(original, k), nearest(embedded, k)
    return null_of_pairing(
        lambda order: _penalty(ranks, _relabelled(neighbours, order)), len(ranks), permutations, seed
    )


def continuity_null(
    original: torch.Tensor, embedded: torch.Tensor, k: int = K, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null: rows of ``embedded`` are permuted, so that row i describes another text."""
    return trustworthiness_null(embedded, original, k, permutations, seed)


def _relabelled(neighbours: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Neighbours (N, k) of the cloud whose row i is row order[i] of the first one."""
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return inverse[neighbours[order]]


def mutual_neighbours(x: torch.Tensor, y: torch.Tensor, k: int = K) -> torch.Tensor:
    """Mean share of a row's k nearest neighbours that two spaces have in common.

    Mutual k-NN alignment of Huh et al. 2024 (arXiv 2405.07987).

    Args:
        x: (N, d).
        y: (N, e), row i describes the same text.
        k: neighbours, fewer than N / 2.

    Returns:
        scalar float64 in 0..1; k / (N - 1) for unrelated spaces.
    """
    check_rows(x, y)
    return _shared(_membership(nearest(x, k)), nearest(y, k))


def _membership(neighbours: torch.Tensor) -> torch.Tensor:
    """(N, N) bool: whether j is among i's neighbours."""
    n = len(neighbours)
    return torch.zeros(n, n, dtype=torch.bool).scatter_(1, neighbours, True)


def _shared(member: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
    return member.gather(1, neighbours).double().mean()


def mutual_neighbours_null(
    x: torch.Tensor, y: torch.Tensor, k: int = K, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null: rows of ``y`` are permuted, so that row i describes another text."""
    check_rows(x, y)
    member, neighbours = _membership(nearest(x, k)), nearest(y, k)
    return null_of_pairing(
        lambda order: _shared(member, _relabelled(neighbours, order)), len(member), permutations, seed
    )


def hubness(x: torch.Tensor, k: int = K) -> torch.Tensor:
    """Skewness of how often a row is among the k nearest of others (Radovanović et al. 2010, JMLR 11).

    Args:
        x: (N, d).
        k: neighbours, fewer than N / 2.

    Returns:
        scalar float64; 0 for evenly chosen rows, large and positive when a few rows are everybody's neighbour.
    """
    counts = torch.bincount(nearest(x, k).flatten(), minlength=len(x)).double()
    deviation = counts - counts.mean()
    spread = deviation.square().mean()
    return deviation.pow(3).mean() / spread.pow(1.5) if spread > 0 else spread


def hubness_null(x: torch.Tensor, k: int = K, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: principal components are permuted over the rows, each on its own: same mean and covariance."""
    check_neighbours(len(x), k)
    return null_of_structure(lambda cloud: hubness(cloud, k), x.double(), permutations, seed)
