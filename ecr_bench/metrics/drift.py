"""Drift from the base model: how much of its representation of the same texts is left."""

from __future__ import annotations

from typing import Any

import torch

from ecr_bench.metrics.base import BenchMetric
from ecr_bench.metrics.functional import drift
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null


class LinearCKA(BenchMetric):
    """Linear CKA with the unbiased HSIC estimator; see ``functional.drift.linear_cka``.

    As input to ``update``: ``x`` (N, d) and ``y`` (N, e), row i of both describes the same text. Output: a scalar,
    1 for equal up to rotation and scale, about 0 for unrelated. Raises ValueError for fewer than 4 rows or unequal N.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = LinearCKA()
        >>> metric.update(x, 3 * x.flip(1))
        >>> round(float(metric.compute()), 4)
        1.0
    """

    higher_is_better: bool = True
    rows = ("x", "y")

    def compute(self) -> torch.Tensor:
        x, y = self.gathered()
        return drift.linear_cka(x, y)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        x, y = self.gathered()
        return drift.linear_cka_null(x, y, permutations, seed)


class ProcrustesDistance(BenchMetric):
    """Squared orthogonal Procrustes distance after zero padding; see ``functional.drift.procrustes_distance``.

    As input to ``update``: ``x`` (N, d) and ``y`` (N, e), row i of both describes the same text. Output: a scalar
    from 0 (equal up to rotation, shift and scale) to 2. Raises ValueError for fewer than 2 rows or unequal N.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = ProcrustesDistance()
        >>> metric.update(x, x @ torch.linalg.qr(x[:8])[0])
        >>> round(float(metric.compute()), 4)
        0.0
    """

    higher_is_better: bool = False
    rows = ("x", "y")

    def compute(self) -> torch.Tensor:
        x, y = self.gathered()
        return drift.procrustes_distance(x, y)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        x, y = self.gathered()
        return drift.procrustes_distance_null(x, y, permutations, seed)


class CodeStability(BenchMetric):
    """Share of control-token codes that stay; see ``functional.drift.code_agreement``.

    As input to ``update``: ``before`` and ``after``, (N, m) integer codes of the same texts. ``ordered``: a code
    counts only at the same position (residual levels). Output: a scalar in 0..1. It is 1 by construction where
    the projection does not look at the trained weights (``token-table``, or a frozen encoder).

    Example:
        >>> import torch
        >>> metric = CodeStability()
        >>> metric.update(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 1], [3, 7]]))
        >>> float(metric.compute())
        0.75
    """

    higher_is_better: bool = True
    rows = ("before", "after")

    def __init__(self, ordered: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ordered = ordered

    def compute(self) -> torch.Tensor:
        before, after = self.gathered()
        return drift.code_agreement(before, after, self.ordered)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        before, after = self.gathered()
        return drift.code_agreement_null(before, after, self.ordered, permutations, seed)
