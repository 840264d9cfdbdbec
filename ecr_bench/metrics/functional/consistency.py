"""Does a model rank the same options alike in two languages?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, random_orders, summarise


def ranking_consistency(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """RankC of each item (Qi et al. 2023, arXiv 2310.10378).

    Sum over j of w_j |top j in one language and in the other| / j, w_j = exp(N - j) / sum over k of exp(N - k):
    agreement on the best options counts most. Right or wrong plays no part.

    Args:
        first: (Q, N) scores of N options of Q items in one language.
        second: (Q, N) scores of the same options in the same order in another language.

    Returns:
        (Q,) float64 in 0..1, 1 for the same order. Not 0 by chance: the last place always agrees.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"expected two (Q, N) tensors, got {tuple(first.shape)} and {tuple(second.shape)}")
    n = first.shape[1]
    places = torch.arange(1, n + 1, dtype=torch.float64)
    inside = (_ranks(first)[:, :, None] < places) & (_ranks(second)[:, :, None] < places)
    precision = inside.sum(1).double() / places
    return precision @ torch.softmax(n - places, dim=0)


def _ranks(scores: torch.Tensor) -> torch.Tensor:
    """(Q, N): 0 for the best option; ties by position."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(scores.shape[1]).expand_as(order))


def rank_consistency(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Mean RankC over items, which come as (Q, N) blocks of equal N; NaN for no item."""
    found = [ranking_consistency(first, second) for first, second in pairs]
    return torch.cat(found).mean() if found else torch.tensor(torch.nan, dtype=torch.float64)


def rank_consistency_null(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null: an item is compared with another item of its block in the other language."""
    if not pairs:
        return torch.nan, torch.nan, torch.nan
    totals = torch.zeros(permutations, dtype=torch.float64)
    for block, (first, second) in enumerate(pairs):
        orders = random_orders(len(first), permutations, seed + block)
        totals += torch.stack([ranking_consistency(first, second[order]).sum() for order in orders])
    return summarise(totals / sum(len(first) for first, _ in pairs))
