"""The plain twin of ``from_rows``: the same decisions with all rows in lists."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ecr_bench.corpora.base import Deduplicator
from ecr_bench.corpora.draw import draw_splits, water_fill
from ecr_bench.corpora.rows import SPLITS, RawRow, digest
from ecr_bench.errors import UserError

_PRIORITY = {"test": 0, "validation": 1, "train": 2}


def cap_rows(rows: Iterable[RawRow], total: int, seed: int) -> list[RawRow]:
    """At most ``total`` rows, languages evenly; they keep the same meanings, so that rows stay aligned."""
    by_lang: dict[str, list[RawRow]] = defaultdict(list)
    for row in rows:
        by_lang[row.lang].append(row)
    quota = water_fill({lang: len(group) for lang, group in by_lang.items()}, total)

    def rank(row: RawRow) -> tuple[bytes, str]:
        return digest(f"{seed}/meaning/{row.meaning}"), row.text

    kept: list[RawRow] = []
    for lang, group in by_lang.items():
        kept += group if quota[lang] == len(group) else sorted(group, key=rank)[: quota[lang]]
    return kept


def deduplicate(rows: list[RawRow]) -> tuple[list[RawRow], Deduplicator]:
    """Drop normalised duplicates of rows that have their split; a text shared by splits stays in test."""
    filter_ = Deduplicator()
    ordered = sorted(rows, key=lambda row: _PRIORITY[row.split])
    return [row for row in ordered if filter_.add(row.text, row.lang, row.split)], filter_


def assign_splits(rows: Iterable[RawRow], seed: int) -> list[RawRow]:
    """Give rows without a split that of their unit, or one drawn for it; units of one language are drawn together.

    UserError when rows of one unit name different splits: the unit would be in training and in test.
    """
    rows = list(rows)
    given: dict[str, str] = {}
    for row in rows:
        if row.split and given.setdefault(row.unit, row.split) != row.split:
            both = f"{given[row.unit]} and {row.split}"
            raise UserError(f"unit {row.unit!r} has rows in {both}: all rows of a unit must be in one split")
    rows = [row if row.split else row._replace(split=given.get(row.unit, "")) for row in rows]
    strata: dict[str, str] = {}
    for row in rows:
        if not row.split and strata.setdefault(row.unit, row.lang) != row.lang:
            strata[row.unit] = ""
    drawn = draw_splits(strata, seed)
    return [row if row.split else row._replace(split=drawn[row.unit]) for row in rows]


def plain(rows: Iterable[RawRow], name: str, total: int, seed: int) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """Rows with their ids, and what the card counts."""
    kept, dropped = deduplicate(assign_splits(rows, seed))
    kept = cap_rows(kept, total, seed)
    languages: dict[str, dict[str, int]] = {}
    together: dict[str, set[str]] = defaultdict(set)
    hashed = hashlib.sha256()
    for row in kept:
        languages.setdefault(row.lang, dict.fromkeys(SPLITS, 0))[row.split] += 1
        together[row.meaning].add(row.lang)
        hashed.update("\x1f".join(row).encode() + b"\x1e")
    return [(f"{name}-{index:07d}", *row) for index, row in enumerate(kept)], {
        "rows": len(kept),
        "languages": dict(sorted(languages.items())),
        "labels": len({row.label for row in kept}),
        "meanings": len(together),
        "aligned": sum(len(together[row.meaning]) > 1 for row in kept),
        "duplicates_dropped": dropped.within,
        "cross_split_duplicates_dropped": dropped.across,
        "fingerprint": hashed.hexdigest()[:16],
    }
