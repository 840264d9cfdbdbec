"""Corpus rows as the item builders see them, and the seeded orders they draw in."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, NamedTuple, TypeVar, get_args

import datasets
import pandas as pd

from ecr_bench.errors import UserError, unknown
from ecr_bench.types import CORPUS_COLUMNS, Split

OPTIONS = 4
"""Choices per item; chance is one in this many."""

T = TypeVar("T")


class CorpusRow(NamedTuple):
    """One corpus sentence; the fields are ``types.CORPUS_COLUMNS``, ``slots`` still as JSON."""

    id: str
    text: str
    lang: str
    meaning: str
    label: str
    unit: str
    split: str
    slots: str

    @property
    def values(self) -> dict[str, str]:
        """Slot name to canonical value."""
        return parse_slots(self.slots)


@lru_cache(maxsize=1 << 16)
def parse_slots(text: str) -> dict[str, str]:
    """Read the ``slots`` column; UserError when it is not a JSON object."""
    try:
        value: Any = json.loads(text or "{}")
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f'corpus column slots: {text!r:.60} is not a JSON object such as {{"area": "kitchen"}}')
    return {str(slot): str(content) for slot, content in value.items()}


def as_frame(rows: datasets.Dataset | pd.DataFrame) -> pd.DataFrame:
    """The corpus as a DataFrame; UserError names a missing column."""
    frame = rows if isinstance(rows, pd.DataFrame) else rows.to_pandas()
    if missing := [column for column in CORPUS_COLUMNS if column not in frame.columns]:
        raise UserError(f"corpus: column {missing[0]!r} is missing: needed are {', '.join(CORPUS_COLUMNS)}")
    return frame


def select(frame: pd.DataFrame, split: str, languages: Sequence[str] | None = None) -> list[CorpusRow]:
    """Rows of ``split`` (and ``languages``) in the order of their ids."""
    if split not in get_args(Split):
        raise unknown("split", split, get_args(Split))
    keep = frame["split"] == split
    if languages is not None:
        keep &= frame["lang"].isin(list(languages))
    part = frame.loc[keep, list(CORPUS_COLUMNS)].sort_values("id")
    columns = [part[column].to_numpy(dtype=object).tolist() for column in CORPUS_COLUMNS]
    return [CorpusRow(*values) for values in zip(*columns, strict=True)]


def by(rows: Sequence[T], key: Callable[[T], Hashable]) -> dict[Any, list[T]]:
    """Group ``rows`` by ``key``, groups and members in order of first appearance."""
    groups: dict[Any, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def interleave(rows: Sequence[T], keys: Sequence[Callable[[T], Hashable]], rng: random.Random) -> list[T]:
    """Shuffle ``rows`` so that every prefix covers the first key evenly, within it the second, and so on."""
    if not keys:
        return rng.sample(list(rows), len(rows))
    groups = [interleave(group, keys[1:], rng) for group in by(rows, keys[0]).values()]
    rng.shuffle(groups)
    return [row for row in chain.from_iterable(zip_longest(*groups)) if row is not None]


def place(gold: str, others: Sequence[str], rng: random.Random) -> tuple[tuple[str, ...], int]:
    """Shuffle the options; returns them and the index of ``gold``, uniform over positions."""
    choices = [gold, *others]
    rng.shuffle(choices)
    return tuple(choices), choices.index(gold)
