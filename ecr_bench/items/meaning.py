"""Fine, cross-lingual items: which of four sentences of language B says what this one of language A says?

The wrong options have the intent of the right one, other slot values, nearly its length and as many of
its character trigrams as there are; so copying and length alone do not find it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from ecr_bench.errors import UserError
from ecr_bench.items.pairs import parse_pair
from ecr_bench.items.rows import OPTIONS, CorpusRow, by, interleave, place, select
from ecr_bench.items.slot import SYNONYMS
from ecr_bench.items.trigrams import dice, sizes, trigrams
from ecr_bench.types import Item

LENGTH_BAND = 0.3
"""Wrong options are within this share of the length of the right one where there are enough."""
SHARED_SLOTS = 0.5
"""Weight of the share of equal slots beside trigram overlap when the hard options are sought."""
COPIED = 3.0
"""Weight of what a wrong option lacks, against the right one, in trigrams it shares with the text."""
COPYABLE = 0.2
"""Share of the items whose right option alone has most trigrams in common with the text, if rows suffice."""
NEAREST = 6
"""Each wrong option is drawn from this many most similar sentences."""
LARGEST_POOL = 400
"""Sentences of one intent and language that options are drawn from, at most."""
# Several languages have one word for two device classes (a curtain, a blind), or leave them out (the lights).
UNSTATED = re.compile(r"\b(domain|device_class)=[^,)]*,? ?")


def build(
    frame: pd.DataFrame, *, split: str, languages: Sequence[str], count: int, seed: int, pairs: Sequence[str]
) -> list[Item]:
    """Meaning items of each of ``pairs``; intents as evenly as the rows allow. ``languages`` bounds the pairs."""
    both = frame.groupby("meaning")["lang"].nunique()
    if len(both) and both.max() < 2:
        raise UserError("task 'meaning': no meaning occurs in two languages; leave 'meaning' out of tasks")
    by_lang = by(select(frame, split, languages), lambda row: row.lang)
    stores: dict[str, Targets] = {}
    items: list[Item] = []
    for pair in pairs:
        source, target = parse_pair(pair, languages)
        if target not in stores:
            stores[target] = Targets(by_lang.get(target, []), random.Random(f"{seed}/meaning/{split}/{target}"))
        rng = random.Random(f"{seed}/meaning/{split}/{pair}")
        items += _pair_items(by_lang.get(source, []), target, stores[target], count, rng)
    return items


def _pair_items(rows: list[CorpusRow], target: str, targets: Targets, count: int, rng: random.Random) -> list[Item]:
    """At most ``count`` items, of which ``COPYABLE`` may be solved by copying; more of those only if rows run out."""
    shared = [row for row in rows if row.meaning in targets.meanings]
    overlap = {row.id: shares for group in by(shared, targets.pool).values() for row, shares in targets.overlap(group)}
    items: list[Item] = []
    spare: list[Item] = []
    copyable = 0
    for row in interleave(shared, [lambda row: row.label, lambda row: row.meaning], rng):
        if len(items) == count:
            break
        pool = targets.pools[targets.pool(row)]
        gold = rng.choice(pool.of_meaning[row.meaning])
        others = pool.hard_options(gold, overlap[row.id], rng)
        if len(others) < OPTIONS - 1:
            continue
        choices, position = place(pool.rows[gold].text, [pool.rows[i].text for i in others], rng)
        item = _item(row, target, choices, position)
        if overlap[row.id][gold] <= overlap[row.id][others].max():
            items.append(item)
        elif copyable < COPYABLE * count:
            copyable += 1
            items.append(item)
        else:
            spare.append(item)
    return items + spare[: count - len(items)]


def _item(row: CorpusRow, target: str, choices: tuple[str, ...], gold: int) -> Item:
    return Item(
        item_id=f"meaning/{row.id}/{target}",
        task="meaning",
        grain="fine",
        cluster=row.meaning,
        lang=row.lang,
        target_lang=target,
        text=row.text,
        question=f"{target}:",
        choices=choices,
        gold=gold,
        topic=row.label,
    )


def stated_content(meaning: str) -> str:
    """``meaning`` without what a sentence need not state, and with synonymous values made one."""
    for slot, group in SYNONYMS:
        for value in group:
            meaning = meaning.replace(f"{slot}={value}", f"{slot}={min(group)}")
    return UNSTATED.sub("", meaning)


class Targets:
    """The sentences of one language that options are drawn from, in one pool per intent."""

    def __init__(self, rows: list[CorpusRow], rng: random.Random) -> None:
        groups = by(rows, lambda row: row.label)
        kept = {label: rng.sample(group, min(len(group), LARGEST_POOL)) for label, group in groups.items()}
        self.pools = {label: Pool(group) for label, group in kept.items()}
        self.meanings = {row.meaning: row.label for group in kept.values() for row in group}

    def pool(self, row: CorpusRow) -> str:
        """Which of ``pools`` has a sentence with the meaning of ``row``."""
        return self.meanings[row.meaning]

    def overlap(self, rows: list[CorpusRow]) -> list[tuple[CorpusRow, np.ndarray]]:
        """For ``rows`` of one pool: the share of each pool sentence's trigrams that the row's text has, (n,)."""
        pool = self.pools[self.pool(rows[0])]
        shared = (trigrams([row.text for row in rows]) @ pool.vectors.T).toarray()
        return list(zip(rows, shared / sizes(pool.vectors), strict=True))


@dataclass
class Pool:
    """Sentences of one intent in one language, and how alike they are."""

    rows: list[CorpusRow]

    @cached_property
    def of_meaning(self) -> dict[str, list[int]]:
        return by(range(len(self.rows)), lambda i: self.rows[i].meaning)

    @cached_property
    def content(self) -> np.ndarray:
        """(n,) number of what each sentence surely states: rows of one content never stand in one item."""
        return np.unique([stated_content(row.meaning) for row in self.rows], return_inverse=True)[1]

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array([len(row.text) for row in self.rows])

    @cached_property
    def vectors(self) -> csr_matrix:
        return trigrams([row.text for row in self.rows])

    @cached_property
    def similarity(self) -> np.ndarray:
        """(n, n) trigram Dice plus ``SHARED_SLOTS`` times the Jaccard share of equal slot values."""
        slots = [{f"{slot}={value}" for slot, value in row.values.items()} for row in self.rows]
        names = {name: i for i, name in enumerate(sorted(set().union(*slots)))}
        has = np.zeros((len(slots), len(names) + 1), dtype=np.float32)
        for i, mine in enumerate(slots):
            has[i, [names[name] for name in mine]] = 1
        both = has @ has.T
        total = has.sum(axis=1)
        jaccard = both / np.maximum(total[:, None] + total[None, :] - both, 1)
        return dice(self.vectors) + SHARED_SLOTS * jaccard

    def hard_options(self, gold: int, overlap: np.ndarray, rng: random.Random) -> list[int]:
        """Indices of three sentences with other content, hard to tell from ``gold``; fewer when there are none.

        ``overlap``: (n,) share of each sentence's trigrams that stand in the text. One of the four options,
        drawn evenly, is the hub the others are chosen to resemble; were it always the gold, the option most
        like the others would be the answer.
        """
        free = self.content != self.content[gold]
        near = free & (np.abs(self.lengths - self.lengths[gold]) <= LENGTH_BAND * self.lengths[gold])
        if len(set(self.content[near].tolist())) >= OPTIONS - 1:
            free = near
        lack = COPIED * np.maximum(overlap[gold] - overlap, 0)
        chosen: list[int] = []
        hub = gold
        while len(chosen) < OPTIONS - 1 and free.any():
            score = np.where(free, self.similarity[hub] - lack, -np.inf)
            best = [int(i) for i in np.argsort(-score, kind="stable")[:NEAREST] if free[i]]
            chosen.append(rng.choice(best))
            free = free & (self.content != self.content[chosen[-1]])
            if len(chosen) == 1 and rng.randrange(OPTIONS):
                hub = chosen[0]
        return chosen
