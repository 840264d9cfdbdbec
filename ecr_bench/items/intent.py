"""Coarse items: which of four confusable intents does the sentence have?

Intents fall into confusion sets of at least four that talk alike; the wrong options are drawn evenly from the
set of the right one. Because a whole set is drawn from, the options by themselves do not betray
which of them is right (a 'three nearest neighbours of the gold' rule would: the gold is the one in the middle).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from ecr_bench.errors import UserError
from ecr_bench.items.rows import OPTIONS, CorpusRow, by, interleave, place, select
from ecr_bench.types import Item

# Templates disagree on which of the two 'start the robot vacuum in the garage' is.
AMBIGUOUS = frozenset({"HassVacuumStart", "HassVacuumCleanArea"})
LARGEST_SET = 8
"""Sets grow beyond this only when one below four has nowhere else to go."""
NAME_WEIGHT = 0.5
"""Weight of shared words in the intents' names beside the similarity of their sentences."""


def build(
    frame: pd.DataFrame, *, split: str, languages: Sequence[str], count: int, seed: int, pairs: Sequence[str]
) -> list[Item]:
    """Intent items of ``languages``, all intents as evenly as the rows allow."""
    return labelled_items(frame, task="intent", split=split, languages=languages, count=count, seed=seed)


def labelled_items(
    frame: pd.DataFrame, *, task: str, split: str, languages: Sequence[str], count: int, seed: int
) -> list[Item]:
    """Items of ``task``, which asks for the label; question ``TASK:``. Also behind the task ``label``."""
    names, confusion_sets = confusable(frame, task)
    rows = by([row for row in select(frame, split, languages) if row.label in names], lambda row: row.lang)
    items: list[Item] = []
    for lang in languages:
        rng = random.Random(f"{seed}/{task}/{split}/{lang}")
        ordered = interleave(rows.get(lang, []), [lambda row: row.label, lambda row: row.unit], rng)
        items += [_item(task, row, names, _rivals(row.label, confusion_sets), rng) for row in ordered[:count]]
    return items


def _rivals(label: str, confusion_sets: dict[str, list[str]]) -> list[str]:
    """The labels wrong options are drawn from: the confusion set, or all where ``AMBIGUOUS`` leaves too few of it."""
    for group in (confusion_sets[label], list(confusion_sets)):
        rivals = [other for other in group if other != label and not {label, other} <= AMBIGUOUS]
        if len(rivals) >= OPTIONS - 1:
            break
    return rivals


def _item(task: str, row: CorpusRow, names: dict[str, str], rivals: list[str], rng: random.Random) -> Item:
    others = [names[label] for label in rng.sample(rivals, OPTIONS - 1)]
    choices, gold = place(names[row.label], others, rng)
    return Item(
        item_id=f"{task}/{row.id}",
        task=task,
        grain="coarse",
        cluster=row.meaning,
        lang=row.lang,
        target_lang=row.lang,
        text=row.text,
        question=f"{task}:",
        choices=choices,
        gold=gold,
        topic=row.label,
    )


def confusable(frame: pd.DataFrame, task: str = "intent") -> tuple[dict[str, str], dict[str, list[str]]]:
    """Readable name and confusion set of each intent of the training split.

    Similarity is the TF-IDF cosine of the intents' training sentences (English where there are any, else
    the language with most rows) plus ``NAME_WEIGHT`` times that of their names. UserError when the
    training split has fewer than four labels.
    """
    train = frame.loc[frame["split"] == "train", ["label", "lang", "text"]]
    labels = sorted(train["label"].unique())
    if len(labels) < OPTIONS:
        raise UserError(f"task {task!r}: the training split has {len(labels)} labels: needed are {OPTIONS} or more")
    names = readable_names(labels)
    counts = train["lang"].value_counts()
    pivot = "en" if "en" in counts.index else min(counts.index, key=lambda lang: (-counts[lang], lang))
    own = train[train["lang"] == pivot].sort_values("text").groupby("label")["text"].apply(" \n ".join)
    sentences = _cosine([own.get(label, names[label]) for label in labels])
    similarity = sentences + NAME_WEIGHT * _cosine([names[label] for label in labels])
    confusion_sets = {labels[i]: [labels[j] for j in group] for group in group_by_four(similarity) for i in group}
    return names, confusion_sets


def _cosine(texts: list[str]) -> np.ndarray:
    """(n, n) float64 cosines of TF-IDF vectors."""
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+").fit_transform(texts)
    return (vectors @ vectors.T).toarray()


def group_by_four(similarity: np.ndarray) -> list[list[int]]:
    """Average-linkage merging of the (n, n) ``similarity`` until every group has at least four members.

    Only merges that involve a group still below four are made, and one within ``LARGEST_SET`` if there is any.
    """
    groups = [[i] for i in range(len(similarity))]

    def merit(pair: tuple[int, int]) -> tuple[bool, float]:
        a, b = groups[pair[0]], groups[pair[1]]
        return len(a) + len(b) <= LARGEST_SET, float(similarity[np.ix_(a, b)].mean())

    while len(groups) > 1 and min(map(len, groups)) < OPTIONS:
        small = [(a, b) for b in range(len(groups)) for a in range(b) if min(len(groups[a]), len(groups[b])) < OPTIONS]
        first, second = max(small, key=merit)
        groups[first] += groups.pop(second)
    return [sorted(group) for group in groups]


def readable_names(labels: Sequence[str]) -> dict[str, str]:
    """``HassClimateGetTemperature`` -> ``climate get temperature``; labels whose names collide keep their own."""
    names = {label: readable(label) for label in labels}
    taken = by(labels, lambda label: names[label])
    return {label: name if len(taken[name]) == 1 else label for label, name in names.items()}


def readable(label: str) -> str:
    """Words of a CamelCase, snake_case or path-like label, lower-cased, without the prefix ``Hass``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"^Hass(?=[A-Z])", "", label))
    return " ".join(re.split(r"[\W_]+", words)).strip().lower() or label
