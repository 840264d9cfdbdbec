"""Are languages in one space? Translations, rankings of options, hubs and language probes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ecr_bench.metrics.base import BenchMetric
from ecr_bench.metrics.functional import bitext, consistency, groups, neighbours, probe
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null


class _Bitext(BenchMetric):
    """Mean over language pairs of a score of sentence pairs."""

    higher_is_better: bool = True
    rows = ("source", "target", "groups")
    score: ClassVar[Any]
    """Function of source and target rows, and the same under permutations."""
    draws: ClassVar[Any]

    def compute(self) -> torch.Tensor:
        source, target, pairs = self.gathered()
        return groups.mean_over_groups(self.score, source, target, pairs)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        source, target, pairs = self.gathered()
        return groups.mean_over_groups_null(self.draws, source, target, pairs, permutations, seed)


class RetrievalAccuracy(_Bitext):
    """Bitext retrieval from source to target (P@1); see ``functional.bitext.retrieval_accuracy``.

    As input to ``update``: ``source`` and ``target`` (N, d), row i of both translate each other, and ``groups``
    (N,) int64, the language pair. Output: mean over language pairs, a scalar in 0..1. Raises TooFewRows without pairs.

    Example:
        >>> import torch
        >>> metric = RetrievalAccuracy()
        >>> metric.update(torch.eye(3), torch.eye(3)[[0, 2, 1]], torch.zeros(3, dtype=torch.int64))
        >>> round(float(metric.compute()), 4)
        0.3333
    """

    score = staticmethod(bitext.retrieval_accuracy)
    draws = staticmethod(bitext.retrieval_accuracy_draws)


class RetrievalBothWays(_Bitext):
    """Bitext retrieval, mean of both directions; see ``functional.bitext.both_ways_accuracy``.

    Input and output as for ``RetrievalAccuracy``.

    Example:
        >>> import torch
        >>> metric = RetrievalBothWays()
        >>> metric.update(torch.eye(3), 2 * torch.eye(3), torch.zeros(3, dtype=torch.int64))
        >>> float(metric.compute())
        1.0
    """

    score = staticmethod(bitext.both_ways_accuracy)
    draws = staticmethod(bitext.both_ways_accuracy_draws)


class MEXA(_Bitext):
    """Share of pairs that are each other's nearest, on both sides; see ``functional.bitext.mexa``.

    Input and output as for ``RetrievalAccuracy``.

    Example:
        >>> import torch
        >>> metric = MEXA()
        >>> metric.update(torch.eye(3), 2 * torch.eye(3), torch.zeros(3, dtype=torch.int64))
        >>> float(metric.compute())
        1.0
    """

    score = staticmethod(bitext.mexa)
    draws = staticmethod(bitext.mexa_draws)


class RankConsistency(BenchMetric):
    """RankC over option scores of the same items in two languages; see ``functional.consistency``.

    As input to ``update``: ``first`` and ``second``, (Q, N) scores of the same N options; N may differ between
    calls. Output: mean over items, a scalar in 0..1. Raises TooFewRows without items, NotMeasurable for tied scores.

    Example:
        >>> import torch
        >>> metric = RankConsistency()
        >>> metric.update(torch.tensor([[3.0, 2, 1]]), torch.tensor([[0.3, 0.2, 0.1]]))
        >>> round(float(metric.compute()), 4)
        1.0
    """

    higher_is_better: bool = True
    rows = ("first", "second")

    def _blocks(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """One block for each number of options; blocks differ in width, so they are never concatenated blindly."""
        blocks: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        sides: tuple[Any, Any] = self.first, self.second
        for first, second in zip(*sides, strict=True):
            blocks.setdefault(first.shape[1], []).append((first, second))
        return [
            (torch.cat([first for first, _ in parts]), torch.cat([second for _, second in parts]))
            for _, parts in sorted(blocks.items())
        ]

    def compute(self) -> torch.Tensor:
        return consistency.rank_consistency(self._blocks())

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        return consistency.rank_consistency_null(self._blocks(), permutations, seed)


class Hubness(BenchMetric):
    """Skewness of the k-occurrence; see ``functional.neighbours.hubness``.

    As input to ``update``: ``x`` (N, d); ``k`` neighbours, fewer than N / 2 (else ValueError). Output: a scalar.

    Example:
        >>> import torch
        >>> ring = torch.linspace(0, 6.2831853, 41)[:40]
        >>> metric = Hubness(k=2)
        >>> metric.update(torch.stack([ring.cos(), ring.sin()], 1))
        >>> float(metric.compute())
        0.0
    """

    higher_is_better: bool = False
    rows = ("x",)

    def __init__(self, k: int = neighbours.K, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def compute(self) -> torch.Tensor:
        (x,) = self.gathered()
        return neighbours.hubness(x, self.k)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        (x,) = self.gathered()
        return neighbours.hubness_null(x, self.k, permutations, seed)


class LanguageProbe(BenchMetric):
    """Cross-validated accuracy of a linear probe for the language; see ``functional.probe.probe_accuracy``.

    As input to ``update``: ``x`` (N, d), ``labels`` (N,) int64 (the language) and ``groups`` (N,) int64 (the
    meaning: folds never share one). Output: balanced accuracy, a scalar in 0..1. Raises ValueError for fewer than
    two labels or fewer groups than folds.

    Example:
        >>> import torch
        >>> metric = LanguageProbe(folds=2)
        >>> metric.update(torch.eye(2).repeat(4, 1), torch.arange(8) % 2, torch.arange(8) // 2)
        >>> float(metric.compute())
        1.0
    """

    higher_is_better: bool = False
    rows = ("x", "labels", "groups")

    def __init__(self, folds: int = probe.FOLDS, ridge: float = probe.RIDGE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folds, self.ridge = folds, ridge

    def compute(self) -> torch.Tensor:
        x, labels, groups = self.gathered()
        return probe.probe_accuracy(x, labels, groups, self.folds, self.ridge)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        x, labels, groups = self.gathered()
        return probe.probe_accuracy_null(x, labels, groups, self.folds, self.ridge, permutations, seed)
