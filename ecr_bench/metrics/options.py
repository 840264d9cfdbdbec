"""Items of two languages that offer the same options, and a model's scores of those."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import torch

from ecr_bench.types import Item

LEAST_OPTIONS = 3
"""With two options in common a ranking says little more than which one was chosen."""

Blocks = list[tuple[torch.Tensor, torch.Tensor]]


def aligned_scores(items: Sequence[Item], records: pd.DataFrame) -> Blocks:
    """Scores of the options that two translations of an item share, in the same order.

    Items align when task, meaning, question and the language of sentence options are the same and the languages
    of their texts are not; each pair of languages of a meaning gives one row. Options that only one of the two
    offers are left out, and pairs with fewer than three in common are, too.

    Args:
        items: test items.
        records: per-item records of one cell at one precision (evaluation/records.py).

    Returns:
        (Q, N) float64 log-likelihoods of either side, one block for each N.
    """
    scores = dict(zip(records["item_id"], records["loglikelihoods"], strict=True))
    groups: dict[tuple[str, str, str, str], list[Item]] = {}
    for item in items:
        if item.item_id in scores:
            target = "" if item.target_lang == item.lang else item.target_lang
            groups.setdefault((item.task, item.cluster, item.question, target), []).append(item)
    found: dict[int, list[tuple[list[float], list[float]]]] = {}
    for group in groups.values():
        for first, second in combinations(sorted(group, key=lambda item: (item.lang, item.item_id)), 2):
            shared = sorted(set(first.choices) & set(second.choices))
            if first.lang != second.lang and len(shared) >= LEAST_OPTIONS:
                sides = tuple([float(scores[i.item_id][i.choices.index(o)]) for o in shared] for i in (first, second))
                found.setdefault(len(shared), []).append((sides[0], sides[1]))
    return [
        (torch.tensor([a for a, _ in rows]).double(), torch.tensor([b for _, b in rows]).double())
        for _, rows in sorted(found.items())
    ]
