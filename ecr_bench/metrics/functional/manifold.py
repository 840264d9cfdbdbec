"""The shape of one cloud of representations: how many dimensions it has and how evenly it uses them."""

from __future__ import annotations

import math

import torch

from ecr_bench.metrics.functional.checks import NotMeasurable, TooFewRows, check_spread
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, null_of_structure

DISCARDED = 0.1
LEAST_ROWS = 20
MISFIT, CHANCE = 0.1, 1.31
"""Largest distance of the ratios from the law that two_nn fits: this much, and what the draw of N rows explains (99 %
point of Kolmogorov's statistic times sqrt N for a law whose parameter is fitted, Lilliefors 1969), in quadrature."""
BEYOND, FAR, FEW = 3.0, 0.04, 2
"""Ratios so far out that exp(-BEYOND) of all N would be: the largest share there may be, and rows on top of it."""
SLACK = 10.0
"""Relative error of the estimate that chance explains, times sqrt N: more than the standard error three times over."""
EQUAL = 1e-9
"""Log ratios below are ties: that much is rounding."""


def two_nn(x: torch.Tensor, discard: float = DISCARDED) -> torch.Tensor:
    """Intrinsic dimension by the TwoNN estimator (Facco et al. 2017, Scientific Reports 7, 12140).

    The ratio mu of the distances to a row's second and first neighbour follows a Pareto law whose exponent is
    the dimension d: -log(1 - F(mu)) = d log mu, fitted through the origin without the largest ``discard`` of
    the ratios, as the authors advise. Distances are Euclidean; of rows that coincide, one is kept.

    Args:
        x: (N, d), at least 20 distinct rows.
        discard: share of the largest ratios left out.

    Returns:
        scalar float64. Known trap: an underestimate above about ten dimensions unless N is very large; compare at
        equal N only.

    Raises:
        NotMeasurable: the rows are no sample of a manifold at the scale of their nearest neighbours. The ratios are
            then farther from the law (Kolmogorov's distance) than ``MISFIT`` and chance explain, as with
            near-duplicates and with distances that tie; or the estimate exceeds the dimensions the vectors have.
        TooFewRows: fewer than 20 rows are distinct.
    """
    check_spread(x)
    x = torch.unique(x.double(), dim=0)
    every, share = _neighbour_ratios(x)
    kept = int(len(every) * (1 - discard))
    log_ratio, target = every[:kept], -torch.log1p(-share[:kept])
    if not (length := log_ratio @ log_ratio):
        raise NotMeasurable("first and second neighbours are equally far away: distances tie")
    dimension = (log_ratio @ target) / length
    _check_law(every, kept, share, dimension)
    if dimension > x.shape[1] * (1 + SLACK / len(share) ** 0.5):
        raise NotMeasurable(f"the estimate, {float(dimension):.3g}, exceeds the {x.shape[1]} dimensions of the vectors")
    return dimension


def _neighbour_ratios(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted logarithms (n,) of the ratio of second to first distance, and their empirical distribution (n,)."""
    if len(x) < LEAST_ROWS:
        raise TooFewRows(f"expected at least {LEAST_ROWS} distinct rows, got {len(x)}")
    x = x - x.mean(0)
    squares = x.square().sum(1)
    distances = (squares[:, None] + squares[None] - 2 * x @ x.T).clamp(min=0).fill_diagonal_(torch.inf)
    first, second = distances.topk(2, largest=False).values.unbind(1)
    # rounding can leave zero between rows that are all but equal
    apart = first > 1e-14 * squares.mean()
    if int(apart.sum()) < LEAST_ROWS:
        raise NotMeasurable(f"all but {int(apart.sum())} of {len(x)} rows equal their neighbour up to rounding")
    log_ratio = (second[apart] / first[apart]).sqrt().log().sort().values
    share = torch.arange(1, len(log_ratio) + 1, dtype=torch.float64) / len(log_ratio)
    return torch.where(log_ratio < EQUAL, 0.0, log_ratio), share


def _check_law(log_ratio: torch.Tensor, kept: int, share: torch.Tensor, dimension: torch.Tensor) -> None:
    """NotMeasurable unless the sorted ``log_ratio`` (n,), of which ``kept`` were fitted, follow the law."""
    n, expected, found = len(share), -torch.expm1(-dimension * log_ratio[:kept]), share[:kept]
    misfit = float(torch.maximum((expected - found).abs(), (expected - found + 1 / n).abs()).max())
    # by the median, which a few near-duplicates do not move
    typical = float(log_ratio.median()) / math.log(2)
    far = float((log_ratio > (math.log(n) + BEYOND) * typical).double().mean())
    if far > FAR + FEW / n:
        raise NotMeasurable(
            f"{100 * far:.0f} % of the rows have a neighbour far nearer than the law allows: near-duplicates"
        )
    if misfit > math.hypot(MISFIT, CHANCE / n**0.5):
        raise NotMeasurable(
            f"neighbour distances do not follow the law of the estimator (off by {misfit:.2f}): near-duplicates or ties"
        )


def two_nn_null(x: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: principal components are permuted over the rows, each on its own: same mean and covariance."""
    return null_of_structure(two_nn, x.double(), permutations, seed)


def iso_score(x: torch.Tensor) -> torch.Tensor:
    """How evenly the dimensions are used (Rudman et al. 2022, arXiv 2108.07344, algorithm 1).

    Args:
        x: (N, d), d at least 2.

    Returns:
        scalar float64, 0 when all variance lies in one direction, 1 when it is the same in all.

    Raises NotMeasurable for rows that are all equal.
    """
    n = x.shape[-1]
    if x.ndim != 2 or n < 2:
        raise ValueError(f"expected (N, d) with d at least 2, got {tuple(x.shape)}")
    if len(x) < 2:
        raise TooFewRows(f"expected at least 2 rows, got {len(x)}")
    check_spread(x)
    x = x.double() - x.double().mean(0)
    # the smaller of the two Gram matrices has all eigenvalues that are not zero
    variances = torch.linalg.eigvalsh(x.T @ x if n <= len(x) else x @ x.T).clamp(min=0)
    variances = torch.cat([variances, torch.zeros(max(0, n - len(x)), dtype=torch.float64)])
    defect = (n**0.5 * variances / variances.norm() - 1).norm() / (2 * (n - n**0.5)) ** 0.5
    used = (n - defect**2 * (n - n**0.5)) ** 2 / n**2
    return (n * used - 1) / (n - 1)


def iso_score_null(x: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: the model's own coordinates are permuted over the rows, each on its own: only their variances stay."""
    return null_of_structure(iso_score, x.double(), permutations, seed, components=False)
