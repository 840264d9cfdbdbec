"""Fine items: which value of one slot does the sentence state? The options are values of that slot.

A handful of codes cannot carry the answer: the text must be read.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from ecr_bench.errors import UserError
from ecr_bench.items.rows import OPTIONS, CorpusRow, by, interleave, place, select
from ecr_bench.types import Item

# The templates add these by themselves, or name them by conventions of Home Assistant (an open mailbox is `on`).
UNASKED = frozenset({"domain", "device_class", "state"})
# Canonical values for which several languages have one word; never options of the same item.
SYNONYMS: tuple[tuple[str, frozenset[str]], ...] = (
    ("fan_mode", frozenset({"middle", "medium"})),
    ("fan_mode", frozenset({"top", "high"})),
)
WINDOW = 6
"""Number options come from this many neighbours in the sorted list of values."""

Values = dict[tuple[str, str], tuple[str, ...]]
"""(label or unit, slot) -> canonical values, sorted."""


class SlotQuestion(NamedTuple):
    row: CorpusRow
    slot: str
    value: str


def build(
    frame: pd.DataFrame, *, split: str, languages: Sequence[str], count: int, seed: int, pairs: Sequence[str]
) -> list[Item]:
    """Slot items of ``languages``: half numbers and half words as the rows allow, then slots and values evenly."""
    known = _collect(select(frame, "train"), lambda row: row.label)
    if not any(len(values) >= OPTIONS for (_, slot), values in known.items() if slot not in UNASKED):
        raise UserError(f"task 'slot': no slot has {OPTIONS} values in the training split; leave 'slot' out of tasks")
    rows = by(select(frame, split, languages), lambda row: row.lang)
    items: list[Item] = []
    for lang in languages:
        own = rows.get(lang, [])
        seen_here = _collect(own, lambda row: row.unit)
        rng = random.Random(f"{seed}/slot/{split}/{lang}")
        asked = [question for row in own for question in _questions(row, known, seen_here)]
        keys = [_is_number_question, _is_alone, _slot, _value, _unit]
        items += [_item(question, known, seen_here, rng) for question in interleave(asked, keys, rng)[:count]]
    return items


def _is_number_question(question: SlotQuestion) -> bool:
    return is_number(question.value)


def _is_alone(question: SlotQuestion) -> bool:
    """Whether no other slot of the sentence is a number: then the number of the text is the answer."""
    return sum(map(is_number, question.row.values.values())) < 2


def _slot(question: SlotQuestion) -> str:
    return question.slot


def _value(question: SlotQuestion) -> str:
    return question.value


def _unit(question: SlotQuestion) -> str:
    return question.row.unit


@lru_cache(maxsize=1 << 14)
def is_number(value: str) -> bool:
    """Whether a canonical value is a number such as ``25`` or ``-40``."""
    return re.fullmatch(r"-?\d+(\.\d+)?", value) is not None


def _collect(rows: Sequence[CorpusRow], key: Callable[[CorpusRow], str]) -> Values:
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        for slot, value in row.values.items():
            values[key(row), slot].add(value)
    return {group: tuple(sorted(found)) for group, found in values.items()}


def _questions(row: CorpusRow, known: Values, seen_here: Values) -> list[SlotQuestion]:
    """The slots of ``row`` that can be asked: stated in its text, with three other values known from training."""
    return [
        SlotQuestion(row, slot, value)
        for slot, value in row.values.items()
        if slot not in UNASKED
        and value in known.get((row.label, slot), ())
        and len(rivals(known[row.label, slot], slot, value)) >= OPTIONS - 1
        and stated(row, slot, value, seen_here)
    ]


def stated(row: CorpusRow, slot: str, value: str, seen_here: Values) -> bool:
    """Whether the text says ``value``: its digits stand there, or the row's template takes other values too.

    A value that a template adds by itself never varies within the template.
    """
    if len(seen_here[row.unit, slot]) > 1:
        return True
    digits = re.findall(r"\d+", unicodedata.normalize("NFKC", row.text))
    return is_number(value) and value.lstrip("-") in digits


@lru_cache(maxsize=1 << 14)
def rivals(values: tuple[str, ...], slot: str, value: str) -> tuple[str, ...]:
    """Other ``values`` of the same kind (number or word), none another name of ``value`` or of each other."""
    synonyms = [group for name, group in SYNONYMS if name == slot]
    kept: list[str] = []
    for other in values:
        clash = any(other in group and group & {value, *kept} for group in synonyms)
        if other != value and is_number(other) == is_number(value) and not clash:
            kept.append(other)
    return tuple(kept)


def _item(question: SlotQuestion, known: Values, seen_here: Values, rng: random.Random) -> Item:
    row, slot, value = question
    pool = rivals(known[row.label, slot], slot, value)
    if is_number(value):
        others = _numbers(row, value, pool, rng)
    else:
        first = [other for other in pool if other in seen_here[row.unit, slot]]
        rest = [other for other in pool if other not in first]
        others = [*rng.sample(first, len(first)), *rng.sample(rest, len(rest))][: OPTIONS - 1]
    choices, gold = place(value, others, rng)
    return Item(
        item_id=f"slot/{row.id}/{slot}",
        task="slot",
        grain="fine",
        cluster=row.meaning,
        lang=row.lang,
        target_lang=row.lang,
        text=row.text,
        question=f"{slot.replace('_', ' ')}:",
        choices=tuple(choice.replace("_", " ") for choice in choices),
        gold=gold,
        topic=row.label,
    )


def _numbers(row: CorpusRow, value: str, pool: Sequence[str], rng: random.Random) -> list[str]:
    """Other numbers of the sentence and the negated value first, then values near ``value``.

    ``value`` has a random rank among its neighbours: were it always in the middle, the options would betray it.
    """
    negated = value.removeprefix("-") if value.startswith("-") else f"-{value}"
    first = [other for other in dict.fromkeys([*row.values.values(), negated]) if other in pool]
    ordered = sorted([*pool, value], key=float)
    start = ordered.index(value) - rng.randrange(WINDOW + 1)
    start = max(0, min(start, len(ordered) - WINDOW - 1))
    near = [other for other in ordered[start : start + WINDOW + 1] if other != value and other not in first]
    return [*first, *rng.sample(near, len(near))][: OPTIONS - 1]
