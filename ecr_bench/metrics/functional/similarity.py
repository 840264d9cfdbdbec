"""Semantic similarity of sentences against human judgement (STS)."""

from __future__ import annotations

import torch

from ecr_bench.metrics.functional.checks import check_spread
from ecr_bench.metrics.functional.correlation import LEAST_PAIRS, spearman, spearman_draws
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null
from ecr_bench.metrics.functional.strata import mean_over_strata, mean_over_strata_null


def correlation_with_people(
    first: torch.Tensor, second: torch.Tensor, wanted: torch.Tensor, strata: torch.Tensor
) -> torch.Tensor:
    """Spearman correlation of cosine similarity and human scores, as the mean over languages.

    Args:
        first: (N, d) vectors of one sentence of each pair.
        second: (N, d) vectors of the other.
        wanted: (N,) human scores.
        strata: (N,) int64, the language of each pair; those of fewer than three pairs are left out.

    Returns:
        scalar float64 in -1..1. Raises NotMeasurable where all vectors, or all scores of a language, are equal.
    """
    return mean_over_strata(spearman, _cosines(first, second), wanted.double(), strata, least=LEAST_PAIRS)


def correlation_with_people_null(
    first: torch.Tensor,
    second: torch.Tensor,
    wanted: torch.Tensor,
    strata: torch.Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """Null: human scores are permuted over the sentence pairs of a language."""
    cosines = _cosines(first, second)
    return mean_over_strata_null(spearman_draws, cosines, wanted.double(), strata, permutations, seed, LEAST_PAIRS)


def _cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    check_spread(torch.cat([first, second]))
    return torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=1)
