"""Do translations find each other? Sentence pairs of two languages, row i of one translates row i of the other.

A tie counts as not found, so that a model that maps every text to one point scores 0. Candidates are the
sentences of the same language pair, so scores depend on their number: compare at equal n only.
"""

from __future__ import annotations

import torch

from ecr_bench.metrics.functional.checks import TIE, check_rows
from ecr_bench.metrics.functional.neighbours import unit_rows
from ecr_bench.metrics.functional.permutation import random_orders

NOBODY = -1


def _similarities(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    check_rows(source, target, 2)
    return unit_rows(source) @ unit_rows(target).T


def _best(similarities: torch.Tensor) -> torch.Tensor:
    """(n,) int64: the candidate each row likes best, -1 where two are equally good."""
    top = similarities.topk(2, dim=1)
    # rounding makes equal texts differ in the last digits
    alone = top.values[:, 0] - top.values[:, 1] > TIE
    return torch.where(alone, top.indices[:, 0], torch.full_like(top.indices[:, 0], NOBODY))


def _mutual(similarities: torch.Tensor) -> torch.Tensor:
    """(n,) int64: the candidate a row likes best and that likes it best, -1 where there is none."""
    there, back = _best(similarities), _best(similarities.T)
    rows = torch.arange(len(there))
    agreed = (there != NOBODY) & (back[there.clamp(min=0)] == rows)
    return torch.where(agreed, there, torch.full_like(there, NOBODY))


def retrieval_accuracy(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Share of source sentences whose nearest target sentence, by cosine, is their translation (P@1).

    Bitext retrieval as in Tatoeba (Artetxe & Schwenk 2019, arXiv 1812.10464).

    Args:
        source: (n, d), n at least 2.
        target: (n, d), row i translates row i of ``source``.

    Returns:
        scalar float64 in 0..1; 1 / n by chance.
    """
    best = _best(_similarities(source, target))
    return (best == torch.arange(len(best))).double().mean()


def mexa(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Share of pairs that are nearer to each other than to any other sentence on either side.

    MEXA (Kargaran et al. 2024, arXiv 2410.05873): c_ii > max over j of c_ij and c_ji, j not i.

    Args:
        source: (n, d), n at least 2.
        target: (n, d), row i translates row i of ``source``.

    Returns:
        scalar float64 in 0..1, never above the retrieval accuracy in either direction.
    """
    mutual = _mutual(_similarities(source, target))
    return (mutual == torch.arange(len(mutual))).double().mean()


def retrieval_accuracy_draws(source: torch.Tensor, target: torch.Tensor, permutations: int, seed: int) -> torch.Tensor:
    """(permutations,) accuracies when row i is said to be translated by a random row."""
    best = _best(_similarities(source, target))
    return (best == random_orders(len(best), permutations, seed)).double().mean(1)


def both_ways_accuracy(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of ``retrieval_accuracy`` from source to target and back, scalar float64."""
    return (retrieval_accuracy(source, target) + retrieval_accuracy(target, source)) / 2


def both_ways_accuracy_draws(source: torch.Tensor, target: torch.Tensor, permutations: int, seed: int) -> torch.Tensor:
    """(permutations,) accuracies when row i is said to be translated by a random row."""
    similarities = _similarities(source, target)
    orders = random_orders(len(similarities), permutations, seed)
    there, back = _best(similarities) == orders, _best(similarities.T) == orders.argsort(dim=1)
    return (there.double().mean(1) + back.double().mean(1)) / 2


def mexa_draws(source: torch.Tensor, target: torch.Tensor, permutations: int, seed: int) -> torch.Tensor:
    """(permutations,) MEXA scores when row i is said to be translated by a random row."""
    mutual = _mutual(_similarities(source, target))
    return (mutual == random_orders(len(mutual), permutations, seed)).double().mean(1)
