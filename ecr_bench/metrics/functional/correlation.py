"""Rank correlation of predicted and human similarity."""

from __future__ import annotations

import torch
from scipy.stats import rankdata

from ecr_bench.metrics.functional.checks import TIE, NotMeasurable, TooFewRows
from ecr_bench.metrics.functional.permutation import random_orders

LEAST_PAIRS = 3
"""Two pairs always correlate perfectly."""


def _standard_ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks, ties by their mean, centred and of length 1; NotMeasurable where all values are equal up to rounding."""
    if values.max() - values.min() <= TIE * values.abs().max():
        raise NotMeasurable("all values of one side are equal")
    ranks = torch.from_numpy(rankdata(values.double().numpy()))
    ranks = ranks - ranks.mean()
    return ranks / ranks.norm()


def spearman(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Spearman's rank correlation, ties by mean rank: the measure of STS (Reimers et al. 2016, COLING).

    Args:
        predicted: (N,) similarities, e.g. cosines; N at least 3.
        wanted: (N,) human scores.

    Returns:
        scalar float64 in -1..1. Raises NotMeasurable where one side is constant.
    """
    if predicted.shape != wanted.shape or predicted.ndim != 1:
        raise ValueError(f"expected two (N,) tensors, got {tuple(predicted.shape)} and {tuple(wanted.shape)}")
    if len(wanted) < LEAST_PAIRS:
        raise TooFewRows(f"expected at least {LEAST_PAIRS} pairs, got {len(wanted)}")
    return _standard_ranks(predicted) @ _standard_ranks(wanted)


def spearman_draws(predicted: torch.Tensor, wanted: torch.Tensor, permutations: int, seed: int) -> torch.Tensor:
    """(permutations,) correlations with the human scores permuted over the sentence pairs."""
    ranks = _standard_ranks(wanted)
    return ranks[random_orders(len(ranks), permutations, seed)] @ _standard_ranks(predicted)
