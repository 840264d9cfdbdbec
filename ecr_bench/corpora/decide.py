"""What becomes of spooled rows: their splits, which of them are kept, and in which order.

All of it by numbers that stand for texts, so that it takes some hundred bytes a row, however long they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecr_bench.corpora import parts
from ecr_bench.corpora.draw import splits_of_stratum, water_fill
from ecr_bench.corpora.rows import SPLITS
from ecr_bench.corpora.spool import Spool
from ecr_bench.errors import UserError

PRIORITY = ("test", "validation", "train")
"""A text that splits share stays in the first of them."""


class Decided(NamedTuple):
    """``rows`` (K,) int64: places in the spool, in the order of the corpus."""

    rows: np.ndarray
    within: int
    """Rows left out because the same language and split already had their text."""
    across: int
    """Rows left out because another split already had it."""


def assign(spool: Spool) -> np.ndarray:
    """(N,) int64: of each row a place in ``SPLITS``: its own, that of its unit, or one drawn for it.

    Units of one language are drawn together. UserError when rows of one unit name different splits: the unit would be
    in training and in test.
    """
    named, units = spool.split.array, spool.units.array
    places = np.array([SPLITS.index(name) if name else -1 for name in spool.split.values], dtype=np.int64)
    splits = places[named] if spool.count else np.empty(0, dtype=np.int64)
    given = np.full(int(units.max(initial=-1)) + 1, -1, dtype=np.int64)
    told = np.flatnonzero(splits >= 0)
    given[units[told[::-1]]] = splits[told[::-1]]  # the first of a unit is written last
    if (clash := told[splits[told] != given[units[told]]]).size:
        row = int(clash[0])
        both = f"{SPLITS[given[units[row]]]} and {SPLITS[splits[row]]}"
        (unit,) = spool.column("unit", [row])
        raise UserError(f"unit {unit!r} has rows in {both}: all rows of a unit must be in one split")
    drawn = np.flatnonzero(given[units] < 0)
    given[units[drawn]] = _drawn(units[drawn], spool.lang.array[drawn], spool.unit_ranks[drawn])
    return given[units]


def _drawn(units: np.ndarray, langs: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Of each row the split drawn for its unit; units of several languages are drawn together, like those of one."""
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    stratum = langs[first].astype(np.int64)
    stratum[unit[langs != stratum[unit]]] = -1
    found = np.empty(len(first), dtype=np.int64)
    for one in np.unique(stratum):
        members = np.flatnonzero(stratum == one)
        order = members[np.lexsort((first[members], ranks[first[members]]))]
        found[order] = [SPLITS.index(name) for name in splits_of_stratum(len(order))]
    return found[unit]


def without_duplicates(spool: Spool, splits: np.ndarray) -> Decided:
    """Rows whose text is new, by split in the order of ``PRIORITY``; in a split each language may have a text once."""
    priority = np.array([PRIORITY.index(name) for name in SPLITS])
    order = np.argsort(priority[splits], kind="stable")
    texts = spool.texts.array[order]
    _, first, text = np.unique(texts, return_index=True, return_inverse=True)
    own = splits[order] == splits[order][first[text]]
    here = np.flatnonzero(own)
    pair = texts[here] * len(spool.lang.values) + spool.lang.array[order[here]]
    _, new = np.unique(pair, return_index=True)
    new.sort()
    return Decided(order[here[new]], len(here) - len(new), len(order) - len(here))


def cap(spool: Spool, rows: np.ndarray, total: int) -> np.ndarray:
    """At most ``total`` of ``rows``, language by language, evenly; they keep the same meanings, so that rows stay
    aligned."""
    langs, names = spool.lang.array[rows], spool.lang.values
    codes, first, sizes = np.unique(langs, return_index=True, return_counts=True)
    quota = water_fill({names[code]: int(size) for code, size in zip(codes, sizes, strict=True)}, total)
    parts = [np.empty(0, dtype=np.int64)]
    for code in codes[np.argsort(first)]:
        group, most = rows[langs == code], quota[names[code]]
        parts.append(group if most == len(group) else _by_meaning(spool, group, most))
    return np.concatenate(parts)


def _by_meaning(spool: Spool, rows: np.ndarray, most: int) -> np.ndarray:
    """The first of them by the rank of their meaning, then by their text."""
    if not most:
        return rows[:0]
    ranks = spool.meaning_ranks[rows]
    order = np.argsort(ranks, kind="stable")
    order = order[: int(np.searchsorted(ranks[order], ranks[order[most - 1]], side="right"))]
    rows, ranks = rows[order], ranks[order]
    first = np.r_[0, np.flatnonzero(ranks[1:] != ranks[:-1]) + 1]  # of each meaning
    lengths = np.add.reduceat(spool.lengths[rows], first)
    bounds, sorted_rows = np.r_[first, len(rows)], []
    for some in parts.cut(lengths):  # whole meanings, so that no more texts are in memory
        part = slice(bounds[some.start], bounds[some.stop])
        texts = spool.column("text", rows[part])
        keys = sorted(range(len(texts)), key=lambda at: (ranks[part][at], texts[at]))
        sorted_rows.append(rows[part][keys])
    return np.concatenate(sorted_rows)[:most]
