"""What a metric would give by chance: values under random permutations of the same data."""

from __future__ import annotations

from collections.abc import Callable

import torch

Null = tuple[float, float, float]
"""Mean, 2.5 % and 97.5 % quantile."""

PERMUTATIONS = 200


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_orders(n: int, count: int, seed: int) -> torch.Tensor:
    """(count, n) int64: random orders of n rows."""
    return torch.rand(count, n, generator=generator(seed)).argsort(dim=1)


def summarise(draws: torch.Tensor) -> Null:
    """Mean and central 95 % of values (P,)."""
    draws = draws.double()
    low, high = torch.quantile(draws, torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
    return float(draws.mean()), low, high


def null_of_pairing(
    value: Callable[[torch.Tensor], torch.Tensor], n: int, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null of a metric that compares row i of one side with row i of the other: rows of one side are permuted.

    ``value`` gives the metric when row i is compared with row order[i]; order is (n,) int64.
    """
    return summarise(torch.stack([value(order) for order in random_orders(n, permutations, seed)]))


def permuted_columns(x: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    """Each column of ``x`` (N, d) in a random order of its own: the same marginals, nothing shared between columns."""
    order = torch.rand(x.shape, generator=source).argsort(dim=0)
    return x.gather(0, order)


def null_of_structure(
    value: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    components: bool = True,
) -> Null:
    """Null of a metric of one cloud of points (N, d): every coordinate is permuted over the rows on its own.

    ``components`` True permutes principal components: mean and covariance stay, everything beyond them goes.
    False permutes the model's own coordinates: only their variances stay.
    """
    source = generator(seed)
    mean = x.mean(0)
    axes = torch.linalg.svd(x - mean, full_matrices=False)[2] if components else None
    scores = (x - mean) @ axes.T if axes is not None else x - mean
    draws = []
    for _ in range(permutations):
        shuffled = permuted_columns(scores, source)
        draws.append(value((shuffled @ axes if axes is not None else shuffled) + mean))
    return summarise(torch.stack(draws))
