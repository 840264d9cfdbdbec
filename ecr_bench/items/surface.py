"""How far the surface of the items goes: baselines that understand nothing, printed beside every task."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from ecr_bench.items.slot import is_number
from ecr_bench.items.trigrams import contained, sizes, trigrams
from ecr_bench.types import Item


def surface_baselines(
    items: Sequence[Item], train_items: Sequence[Item], groups: Mapping[str, str] | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy of each surface rule, as ``{task: {group: {rule: accuracy}}}``.

    ``groups`` maps a language to its group (``seen``, ``unseen``); an item with languages of two groups
    belongs to ``unseen``. Without it everything is in group ``all``. Ties share the credit evenly.

    Rules: ``copy`` (option with the largest share of its character trigrams in the text; for ``slot`` also
    apart for numbers and words), ``length_closest`` (to the text, in characters), ``length_shortest``,
    ``length_longest``, ``consensus`` (option most like the other options, text unread), ``majority``
    (option most often right in the training items), ``chance``.
    """
    if not items:
        return {}
    rules = _rules(items, _majority_counts(train_items))
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        members[item.task, _group(item, groups)].append(i)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for (task, group), rows in members.items():
        numbers = {rule: float(credit[rows].mean()) for rule, credit in rules.items()}
        if task == "slot":
            kinds = np.array([is_number(items[i].choices[items[i].gold]) for i in rows])
            for name, kind in (("copy_numbers", kinds), ("copy_words", ~kinds)):
                if kind.any():
                    numbers[name] = float(rules["copy"][rows][kind].mean())
        result.setdefault(task, {})[group] = {rule: round(value, 4) for rule, value in numbers.items()}
    return result


def _group(item: Item, groups: Mapping[str, str] | None) -> str:
    if groups is None:
        return "all"
    found = {groups[item.lang], groups[item.target_lang]}
    return found.pop() if len(found) == 1 else "unseen"


def _majority_counts(train_items: Sequence[Item]) -> Counter[tuple[str, str, str]]:
    return Counter((item.task, item.question, item.choices[item.gold]) for item in train_items)


def _rules(items: Sequence[Item], right: Counter[tuple[str, str, str]]) -> dict[str, np.ndarray]:
    """(n,) credit of each rule for each item."""
    gold = np.array([item.gold for item in items])
    count = np.array([len(item.choices) for item in items])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    owner = np.repeat(np.arange(len(items)), count)
    options = trigrams([choice for item in items for choice in item.choices])
    texts = trigrams([item.text for item in items])
    length = np.array([len(choice) for item in items for choice in item.choices], dtype=float)
    text_length = np.array([len(item.text) for item in items], dtype=float)[owner]
    often = np.array([right[item.task, item.question, choice] for item in items for choice in item.choices], float)
    scores = {
        "copy": contained(options, texts[owner]),
        "length_closest": -np.abs(length - text_length),
        "length_shortest": -length,
        "length_longest": length,
        "consensus": _consensus(options, start[owner], count[owner]),
        "majority": often,
    }
    rules = {name: _credit(score, start, owner, gold) for name, score in scores.items()}
    return {**rules, "chance": 1 / count}


def _consensus(options: csr_matrix, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(n,) summed Dice overlap of each option with the others of its item (``start``, ``count``: of its item)."""
    n = sizes(options)
    here = np.arange(options.shape[0])
    total = np.zeros(len(here))
    for shift in range(1, int(count.max())):
        other = start + (here - start + shift) % count
        shared = np.asarray(options.multiply(options[other]).sum(axis=1)).ravel()
        total += np.where(shift < count, 2 * shared / (n + n[other]), 0)
    return total


def _credit(score: np.ndarray, start: np.ndarray, owner: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """(n,) 1/k where the gold is among the k best options of its item, else 0."""
    best = np.maximum.reduceat(score, start)
    tied = np.isclose(score, best[owner])
    return np.where(tied[start + gold], 1 / np.add.reduceat(tied.astype(float), start), 0.0)
