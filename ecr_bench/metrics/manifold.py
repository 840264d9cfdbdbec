"""The manifold: shape of a cloud of representations, and how it agrees with the teacher's."""

from __future__ import annotations

from typing import Any

import torch

from ecr_bench.metrics.base import BenchMetric
from ecr_bench.metrics.functional import manifold, neighbours
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null


class IntrinsicDimension(BenchMetric):
    """TwoNN estimate of the dimension of the manifold; see ``functional.manifold.two_nn``.

    As input to ``update``: ``x`` (N, d). Output: a scalar. Raises NotMeasurable for near-duplicates and ties.

    Example:
        >>> import torch
        >>> plane = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> metric = IntrinsicDimension()
        >>> metric.update(plane @ torch.tensor([[1.0, 0, 1], [0, 1, 1]]))
        >>> round(float(metric.compute()))
        2
    """

    higher_is_better: bool | None = None
    rows = ("x",)

    def compute(self) -> torch.Tensor:
        (x,) = self.gathered()
        return manifold.two_nn(x)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        (x,) = self.gathered()
        return manifold.two_nn_null(x, permutations, seed)


class IsoScore(BenchMetric):
    """How evenly the dimensions are used; see ``functional.manifold.iso_score``.

    As input to ``update``: ``x`` (N, d), d at least 2. Output: a scalar, 0 for one direction, 1 for all alike.

    Example:
        >>> import torch
        >>> metric = IsoScore()
        >>> metric.update(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
        >>> round(float(metric.compute()), 4)
        1.0
    """

    higher_is_better: bool | None = None
    rows = ("x",)

    def compute(self) -> torch.Tensor:
        (x,) = self.gathered()
        return manifold.iso_score(x)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        (x,) = self.gathered()
        return manifold.iso_score_null(x, permutations, seed)


class _AgainstTeacher(BenchMetric):
    """Two spaces of the same texts and their neighbourhoods of ``k``."""

    higher_is_better: bool = True
    rows = ("teacher", "student")

    def __init__(self, k: int = neighbours.K, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k


class Trustworthiness(_AgainstTeacher):
    """Near in the student, near in the teacher? See ``functional.neighbours.trustworthiness``.

    As input to ``update``: ``teacher`` (N, d) and ``student`` (N, e), row i of both describes the same text; ``k``
    neighbours, fewer than N / 2 (else ValueError). Output: a scalar, 1 at best, about 0.5 by chance.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = Trustworthiness(k=5)
        >>> metric.update(x, 2 * x)
        >>> float(metric.compute())
        1.0
    """

    def compute(self) -> torch.Tensor:
        teacher, student = self.gathered()
        return neighbours.trustworthiness(teacher, student, self.k)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        teacher, student = self.gathered()
        return neighbours.trustworthiness_null(teacher, student, self.k, permutations, seed)


class Continuity(_AgainstTeacher):
    """Near in the teacher, near in the student? See ``functional.neighbours.continuity``.

    Input and output as for ``Trustworthiness``.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = Continuity(k=5)
        >>> metric.update(x, 2 * x)
        >>> float(metric.compute())
        1.0
    """

    def compute(self) -> torch.Tensor:
        teacher, student = self.gathered()
        return neighbours.continuity(teacher, student, self.k)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        teacher, student = self.gathered()
        return neighbours.continuity_null(teacher, student, self.k, permutations, seed)


class MutualNeighbours(_AgainstTeacher):
    """Share of nearest neighbours in common with the teacher; see ``functional.neighbours.mutual_neighbours``.

    Input as for ``Trustworthiness``. Output: a scalar in 0..1, k / (N - 1) by chance.

    Example:
        >>> import torch
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> metric = MutualNeighbours(k=5)
        >>> metric.update(x, -x)
        >>> float(metric.compute())
        1.0
    """

    def compute(self) -> torch.Tensor:
        teacher, student = self.gathered()
        return neighbours.mutual_neighbours(teacher, student, self.k)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        teacher, student = self.gathered()
        return neighbours.mutual_neighbours_null(teacher, student, self.k, permutations, seed)
