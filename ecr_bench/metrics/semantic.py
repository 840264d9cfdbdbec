"""Semantic similarity of sentences against human judgement."""

from __future__ import annotations

import torch

from ecr_bench.metrics.base import BenchMetric
from ecr_bench.metrics.functional import correlation, groups
from ecr_bench.metrics.functional.checks import check_spread
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null


class SemanticSimilarity(BenchMetric):
    """Spearman correlation of cosine similarity and human scores (STS); see ``functional.correlation.spearman``.

    As input to ``update``: ``first`` and ``second`` (N, d), the sentences of each pair, ``wanted`` (N,), human
    scores, and ``groups`` (N,) int64, the language. Output: mean over languages of three or more pairs, a
    scalar in -1..1. Raises NotMeasurable where all vectors, or all scores of a language, are equal.

    Example:
        >>> import torch
        >>> first, second = torch.eye(2)[[0, 0, 0]], torch.tensor([[1.0, 0], [1, 1], [0, 1]])
        >>> metric = SemanticSimilarity()
        >>> metric.update(first, second, torch.tensor([5.0, 3, 0]), torch.zeros(3, dtype=torch.int64))
        >>> round(float(metric.compute()), 4)
        1.0
    """

    higher_is_better: bool = True
    rows = ("first", "second", "wanted", "groups")

    def _cosines(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        first, second, wanted, language = self.gathered()
        check_spread(torch.cat([first, second]))
        cosines = torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=1)
        return cosines, wanted.double(), language

    def compute(self) -> torch.Tensor:
        return groups.mean_over_groups(correlation.spearman, *self._cosines(), least=correlation.LEAST_PAIRS)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        """Human scores are permuted over the sentence pairs of a language."""
        least = correlation.LEAST_PAIRS
        return groups.mean_over_groups_null(correlation.spearman_draws, *self._cosines(), permutations, seed, least)
