"""A score within each language (pair), then the mean over them: every language counts the same."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ecr_bench.metrics.functional.checks import TooFewRows
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, summarise


def _parts(strata: torch.Tensor, least: int) -> list[torch.Tensor]:
    """Row indices of each stratum of at least ``least`` rows, in the order of their numbers; TooFewRows for none."""
    found = [torch.nonzero(strata == stratum).flatten() for stratum in strata.unique(sorted=True)]
    if not (large := [rows for rows in found if len(rows) >= least]):
        raise TooFewRows(f"no language (pair) has {least} rows")
    return large


def mean_over_strata(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    strata: torch.Tensor,
    least: int = 2,
) -> torch.Tensor:
    """Mean over strata of ``score`` within each; TooFewRows where no stratum has ``least`` rows.

    Args:
        score: a function of two tensors of rows, e.g. ``mexa`` or ``spearman``.
        source: (N, ...).
        target: (N, ...).
        strata: (N,) int64, the language (pair) of each row.
        least: smaller strata are left out.
    """
    return torch.stack([score(source[rows], target[rows]) for rows in _parts(strata, least)]).mean()


def mean_over_strata_null(
    draws: Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor,
    strata: torch.Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    least: int = 2,
) -> Null:
    """Null: rows of one side are permuted within every stratum. ``draws`` is the score's ``_draws`` twin."""
    parts = enumerate(_parts(strata, least))
    found = [draws(source[rows], target[rows], permutations, seed + i) for i, rows in parts]
    return summarise(torch.stack(found).mean(0))
