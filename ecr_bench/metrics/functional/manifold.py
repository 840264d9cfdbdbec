"""The shape of one cloud of representations: how many dimensions it has and how evenly it uses them."""

from __future__ import annotations

import torch

from ecr_bench.metrics.functional.checks import TooFewRows
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, null_of_structure

DISCARDED = 0.1
LEAST_ROWS = 20


def two_nn(x: torch.Tensor, discard: float = DISCARDED) -> torch.Tensor:
    """Intrinsic dimension by the TwoNN estimator (Facco et al. 2017, Scientific Reports 7, 12140).

    The ratio mu of the distances to a row's second and first neighbour follows a Pareto law whose exponent is
    the dimension d: -log(1 - F(mu)) = d log mu, fitted through the origin without the largest ``discard`` of
    the ratios, as the authors advise. Distances are Euclidean; of rows that coincide, one is kept.

    Args:
        x: (N, d), at least 20 distinct rows.
        discard: share of the largest ratios left out.

    Returns:
        scalar float64; NaN where fewer than 20 rows are distinct. Known trap: an underestimate above about ten
        dimensions unless N is very large; compare at equal N only.
    """
    x = torch.unique(x.double(), dim=0)
    if len(x) < LEAST_ROWS:
        return torch.tensor(torch.nan, dtype=torch.float64)
    x = x - x.mean(0)
    squares = x.square().sum(1)
    distances = (squares[:, None] + squares[None] - 2 * x @ x.T).clamp(min=0).fill_diagonal_(torch.inf)
    first, second = distances.topk(2, largest=False).values.unbind(1)
    # rounding can leave zero between rows that are all but equal
    apart = first > 1e-14 * squares.mean()
    ratios = (second[apart] / first[apart]).sqrt().log().sort().values
    kept = int(len(ratios) * (1 - discard))
    if kept < LEAST_ROWS // 2:
        return torch.tensor(torch.nan, dtype=torch.float64)
    share = torch.arange(1, len(ratios) + 1, dtype=torch.float64) / len(ratios)
    log_ratio, target = ratios[:kept], -torch.log1p(-share[:kept])
    return (log_ratio @ target) / (log_ratio @ log_ratio)


def two_nn_null(x: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: principal components are permuted over the rows, each on its own: same mean and covariance."""
    return null_of_structure(two_nn, x.double(), permutations, seed)


def iso_score(x: torch.Tensor) -> torch.Tensor:
    """How evenly the dimensions are used (Rudman et al. 2022, arXiv 2108.07344, algorithm 1).

    Args:
        x: (N, d), d at least 2.

    Returns:
        scalar float64, 0 when all variance lies in one direction, 1 when it is the same in all; NaN if constant.
    """
    n = x.shape[-1]
    if x.ndim != 2 or n < 2:
        raise ValueError(f"expected (N, d) with d at least 2, got {tuple(x.shape)}")
    if len(x) < 2:
        raise TooFewRows(f"expected at least 2 rows, got {len(x)}")
    x = x.double() - x.double().mean(0)
    # the smaller of the two Gram matrices has all eigenvalues that are not zero
    variances = torch.linalg.eigvalsh(x.T @ x if n <= len(x) else x @ x.T).clamp(min=0)
    variances = torch.cat([variances, torch.zeros(max(0, n - len(x)), dtype=torch.float64)])
    length = variances.norm()
    if length <= 1e-24 * len(x):
        return torch.tensor(torch.nan, dtype=torch.float64)
    defect = (n**0.5 * variances / length - 1).norm() / (2 * (n - n**0.5)) ** 0.5
    used = (n - defect**2 * (n - n**0.5)) ** 2 / n**2
    return (n * used - 1) / (n - 1)


def iso_score_null(x: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: the model's own coordinates are permuted over the rows, each on its own: only their variances stay."""
    return null_of_structure(iso_score, x.double(), permutations, seed, components=False)
