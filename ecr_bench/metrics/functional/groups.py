"""A score within each language (pair), then the mean over them: every language counts the same."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, summarise


def _parts(groups: torch.Tensor) -> list[torch.Tensor]:
    """Row indices of each group of at least two rows, in the order of the group numbers."""
    found = [torch.nonzero(groups == group).flatten() for group in groups.unique(sorted=True)]
    return [rows for rows in found if len(rows) > 1]


def mean_over_groups(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    groups: torch.Tensor,
) -> torch.Tensor:
    """Mean over groups of ``score`` within each; NaN where no group has two rows.

    Args:
        score: a function of two tensors of rows, e.g. ``mexa`` or ``spearman``.
        source: (N, ...).
        target: (N, ...).
        groups: (N,) int64, the language (pair) of each row; groups of one row are left out.
    """
    scores = [score(source[rows], target[rows]) for rows in _parts(groups)]
    return torch.stack(scores).mean() if scores else torch.tensor(torch.nan, dtype=torch.float64)


def mean_over_groups_null(
    draws: Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    groups: torch.Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """Null: rows of one side are permuted within every group. ``draws`` is the score's ``_draws`` twin."""
    parts = enumerate(_parts(groups))
    found = [draws(source[rows], target[rows], permutations, seed + i) for i, rows in parts]
    return summarise(torch.stack(found).mean(0)) if found else (torch.nan, torch.nan, torch.nan)
