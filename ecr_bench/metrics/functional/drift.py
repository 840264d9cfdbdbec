"""How far two representations of the same rows are apart, whatever their widths."""

from __future__ import annotations

import torch

from ecr_bench.metrics.functional.checks import NotMeasurable, check_rows, check_spread
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, null_of_pairing

LEAST_ROWS = 4
LEAST_SHAPE = 3
"""Any two pairs of points are congruent."""
NO_STRUCTURE = 1e-9
"""Share of a cloud's biased HSIC below which the unbiased one is rounding."""


def _compact(x: torch.Tensor) -> torch.Tensor:
    """Centred (N, d) float64; rotated without loss into at most N columns where d is larger.

    Raises NotMeasurable for rows that are all equal.
    """
    check_spread(x)
    x = x.double() - x.double().mean(0)
    if x.shape[1] <= x.shape[0]:
        return x
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    return u * s


def _hsic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Unbiased HSIC of linear kernels (Song et al. 2012, JMLR 13), from features instead of kernels."""
    n = len(x)
    a, b = x.square().sum(1), y.square().sum(1)
    # rows of the kernels with their diagonals set to zero, summed
    k, m = x @ x.sum(0) - a, y @ y.sum(0) - b
    trace = (x.T @ y).square().sum() - a @ b
    return (trace + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m) / (n - 2)) / (n * (n - 3))


def linear_cka(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Linear centred kernel alignment with the unbiased HSIC estimator ("debiased CKA").

    CKA (Kornblith et al. 2019, arXiv 1905.00414) = HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)). The plain estimator
    grows towards 1 for unrelated data as the width approaches the number of rows; with the unbiased one
    (Song et al. 2012) unrelated data give 0 at any width, so that sizes can be compared.

    Args:
        x: (N, d), N at least 4.
        y: (N, e), row i describes the same text.

    Returns:
        scalar float64, 1 for equal up to rotation and scale, about 0 for unrelated.

    Raises:
        NotMeasurable: on one side all rows are equal, or their similarities are not more alike than chance makes them
            (the unbiased estimate of HSIC(x, x) is not above zero), as for rows that are all equally far apart.
    """
    check_rows(x, y, LEAST_ROWS)
    return _cka(_compact(x), _compact(y))


def _cka(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return _hsic(x, y) / _own(x, y)


def _own(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The denominator, which no permutation changes."""
    return (_structure(x) * _structure(y)).sqrt()


def _structure(x: torch.Tensor) -> torch.Tensor:
    """Unbiased HSIC(x, x); NotMeasurable unless it is positive beyond rounding."""
    own = _hsic(x, x)
    if own <= NO_STRUCTURE * (x.T @ x).square().sum() / len(x) ** 2:
        raise NotMeasurable("the rows of one side have no similarities to compare, or are too few to show them")
    return own


def linear_cka_null(x: torch.Tensor, y: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: rows of ``y`` are permuted, so that row i describes another text."""
    check_rows(x, y, LEAST_ROWS)
    a, b = _compact(x), _compact(y)
    own = _own(a, b)
    return null_of_pairing(lambda order: _hsic(a, b[order]) / own, len(a), permutations, seed)


def procrustes_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared orthogonal Procrustes distance of two centred clouds of unit Frobenius norm.

    d = ||x||² + ||y||² - 2 ||x'y||_* (Ding et al. 2021, arXiv 2108.01661), what the best rotation
    leaves. Widths are matched by zero padding (Williams et al. 2021, arXiv 2110.14739): it changes no distance,
    and the nuclear norm of the rectangular x'y is that of the padded one. PCA to the narrower width would drop
    variance of the wider model.

    Args:
        x: (N, d), N at least 3.
        y: (N, e), row i describes the same text.

    Returns:
        scalar float64 from 0 (equal up to rotation, shift and scale) to 2.

    Raises NotMeasurable where all rows of one side are equal.
    """
    check_rows(x, y, LEAST_SHAPE)
    return _distance(_unit(_compact(x)), _unit(_compact(y)))


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm()


def _distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (2 - 2 * torch.linalg.svdvals(x.T @ y).sum()).clamp(min=0)


def procrustes_distance_null(x: torch.Tensor, y: torch.Tensor, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Null: rows of ``y`` are permuted, so that row i describes another text."""
    check_rows(x, y, LEAST_SHAPE)
    a, b = _unit(_compact(x)), _unit(_compact(y))
    return null_of_pairing(lambda order: _distance(a, b[order]), len(a), permutations, seed)


def code_agreement(a: torch.Tensor, b: torch.Tensor, ordered: bool = False) -> torch.Tensor:
    """Share of the codes ``b`` of a text that are among its codes ``a``.

    Args:
        a: (N, m) integer codes.
        b: (N, m) integer codes of the same texts.
        ordered: a code counts only at the same position (residual levels).

    Returns:
        scalar float64 in 0..1.
    """
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise ValueError(f"expected two (N, m) tensors of codes, got {tuple(a.shape)} and {tuple(b.shape)}")
    hits = a == b if ordered else (b[:, :, None] == a[:, None, :]).any(2)
    return hits.double().mean()


def code_agreement_null(
    a: torch.Tensor, b: torch.Tensor, ordered: bool = False, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null: each text is compared with the codes of another one."""
    return null_of_pairing(lambda order: code_agreement(a, b[order], ordered), len(a), permutations, seed)
