"""A score within each language (pair), then the mean over them: every language counts the same."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ecr_bench.metrics.functional.checks import TooFewRows
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, summarise


def _parts(groups: torch.Tensor, least: int) -> list[torch.Tensor]:
    """Row indices of each group of at least ``least`` rows, in the order of the group numbers; TooFewRows for none."""
    found = [torch.nonzero(groups == group).flatten() for group in groups.unique(sorted=True)]
    if not (large := [rows for rows in found if len(rows) >= least]):
        raise TooFewRows(f"no language (pair) has {least} rows")
    return large


def mean_over_groups(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    groups: torch.Tensor,
    least: int = 2,
) -> torch.Tensor:
    """Mean over groups of ``score`` within each; TooFewRows where no group has ``least`` rows.

    Args:
        score: a function of two tensors of rows, e.g. ``mexa`` or ``spearman``.
        source: (N, ...).
        target: (N, ...).
        groups: (N,) int64, the language (pair) of each row.
        least: smaller groups are left out.
    """
    return torch.stack([score(source[rows], target[rows]) for rows in _parts(groups, least)]).mean()


def mean_over_groups_null(
    draws: Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    groups: torch.Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    least: int = 2,
) -> Null:
    """Null: rows of one side are permuted within every group. ``draws`` is the score's ``_draws`` twin."""
    parts = enumerate(_parts(groups, least))
    found = [draws(source[rows], target[rows], permutations, seed + i) for i, rows in parts]
    return summarise(torch.stack(found).mean(0))
