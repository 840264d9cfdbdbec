"""Does a model rank the same options alike in two languages?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ecr_bench.metrics.functional.checks import TIED, NotMeasurable, TooFewRows
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
    """Mean RankC over items, which come as (Q, N) blocks of equal N.

    Raises TooFewRows for no item, and NotMeasurable where a side gives options of more than a few items equal scores:
    their ranks would be the order in which the options are listed, which agrees in all languages.
    """
    if not sum(len(first) for first, _ in pairs):
        raise TooFewRows("no item has its options in two languages")
    tied = torch.cat([_has_ties(first) | _has_ties(second) for first, second in pairs]).double().mean()
    if tied > TIED:
        raise NotMeasurable(f"options of {100 * tied:.0f} % of the items have equal scores")
    return torch.cat([ranking_consistency(first, second) for first, second in pairs]).mean()


def _has_ties(scores: torch.Tensor) -> torch.Tensor:
    """(Q,) bool: whether two options of an item score the same."""
    ordered = scores.sort(dim=1).values
    return (ordered[:, 1:] == ordered[:, :-1]).any(1)


def rank_consistency_null(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """Null: an item is compared with another item of its block in the other language."""
    totals = torch.zeros(permutations, dtype=torch.float64)
    for block, (first, second) in enumerate(pairs):
        orders = random_orders(len(first), permutations, seed + block)
        totals += torch.stack([ranking_consistency(first, second[order]).sum() for order in orders])
    return summarise(totals / sum(len(first) for first, _ in pairs))
