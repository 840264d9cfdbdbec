"""hassil sentence templates compiled to functions that write one random sentence.

hassil's own sampler enumerates every sentence and explodes; here each alternative is decided by a
draw. What cannot be written (a wildcard such as a song title, a missing list or rule) is pruned when
the template is compiled, together with every sequence that needs it.
"""

from __future__ import annotations

import functools
import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hassil import expression as hx
from hassil.parse_expression import parse_sentence

Words = Sequence[tuple[str, str]]


class Conflict(Exception):
    """A draw put two values into one slot, or no name fits; draw again."""


@dataclass
class Draw:
    """State of one walk: the random source, the names that fit the template, the slots filled so far.

    ``scene`` decides the slot values: templates of any language drawn with the same scene say the same
    about the same slots, so that meanings meet across languages. The random source decides the wording.
    """

    rng: random.Random
    scene: str
    names: Words
    slots: dict[str, str] = field(default_factory=dict)

    def fill(self, slot: str, value: str) -> None:
        if self.slots.setdefault(slot, value) != value:
            raise Conflict

    def prefers(self, slot: str, canonical: str) -> int:
        """How much the scene wants ``canonical`` in ``slot``; the highest of those at hand is taken."""
        return _preference(self.scene, slot, canonical)


@functools.lru_cache(maxsize=200_000)
def _preference(scene: str, slot: str, canonical: str) -> int:
    return zlib.crc32(f"{scene}/{slot}/{canonical}".encode()) * 2654435761 % 2**32


Writer = Callable[[Draw], str]


def number_pool(raw: Mapping[str, Any], slot: str, seed: int) -> list[int]:
    """The 12 numbers a range is filled with: the same in every language, so that meanings meet.

    Values a household would say (whole degrees 15-30, percent in fives, 2-60 minutes), as far as they lie
    inside ``raw``'s ``from``..``to``.
    """
    if slot == "temperature":
        kind, usual = ("kelvin", range(2000, 6600, 100)) if raw["to"] > 500 else ("degrees", range(15, 31))
    elif slot in {"hours", "start_hours"}:
        kind, usual = "hours", range(2, 25)
    elif slot.removeprefix("start_") in {"minutes", "seconds"}:
        kind, usual = slot.removeprefix("start_"), range(2, 61)
    else:
        kind, usual = "percent", range(5, 100, 5)
    pool = sorted(random.Random(f"{seed}/pool/{kind}").sample(usual, 12))
    return [number for number in pool if raw["from"] <= number <= raw["to"]]


class Grammar:
    """Compiles the templates of one language.

    ``lists`` and ``rules`` are those of the language file; ``own`` gives the words of ``area`` and
    ``floor`` as (word, canonical). ``bare_slots`` leaves out optional endings glued to a slot: Turkish
    templates list every vowel-harmony variant, and a blind draw would pick a wrong one.
    """

    def __init__(
        self,
        lists: Mapping[str, Any],
        rules: Mapping[str, str],
        own: Mapping[str, Words],
        seed: int,
        bare_slots: bool = False,
    ) -> None:
        self._lists, self._rules, self._own, self._seed, self._bare = lists, rules, own, seed, bare_slots
        self._compiled_rules: dict[str, Writer | None] = {}
        self._compiled_slots: dict[tuple[str, str], Writer | None] = {}

    def compile(self, template: str) -> Writer | None:
        """A function that writes one sentence of ``template``; None if nothing can be written."""
        return self._compile(parse_sentence(template).expression)

    def _compile(self, node: hx.Expression) -> Writer | None:
        if isinstance(node, hx.TextChunk):
            text = node.original_text
            return lambda _: text
        if isinstance(node, hx.RuleReference):
            return self._rule(node.rule_name)
        if isinstance(node, hx.ListReference):
            key = (node.list_name, node.slot_name)
            if key not in self._compiled_slots:
                self._compiled_slots[key] = self._slot(*key)
            return self._compiled_slots[key]
        if isinstance(node, hx.Alternative):
            return _choice([writer for item in node.items if (writer := self._compile(item))])
        if isinstance(node, hx.Group):
            items = self._without_endings(node.items) if self._bare else node.items
            writers = [self._compile(item) for item in items]
            known = [writer for writer in writers if writer]
            if len(known) < len(writers):
                return None
            return _shuffled(known) if isinstance(node, hx.Permutation) else _sequence(known)
        raise TypeError(f"hassil has a new kind of expression: {type(node).__name__}")

    def _rule(self, name: str) -> Writer | None:
        if name not in self._compiled_rules:
            self._compiled_rules[name] = None  # a rule that needs itself cannot be written
            if name in self._rules:
                self._compiled_rules[name] = self.compile(self._rules[name])
        return self._compiled_rules[name]

    def _slot(self, list_name: str, slot: str) -> Writer | None:
        if list_name == "name":
            return _named(slot)
        if list_name in self._own:
            return _valued(slot, [(_text(word), canonical) for word, canonical in self._own[list_name]])
        raw = self._lists.get(list_name, {})
        if "range" in raw:
            sign = raw["range"].get("multiplier", 1)
            pool = number_pool(raw["range"], slot, self._seed)
            return _valued(slot, [(_text(str(number)), str(number * sign)) for number in pool])
        values = [(self.compile(value["in"]), canonical_value(value["out"])) for value in raw.get("values", [])]
        return _valued(slot, [(writer, canonical) for writer, canonical in values if writer])

    @staticmethod
    def _without_endings(items: list[hx.Expression]) -> list[hx.Expression]:
        kept: list[hx.Expression] = []
        glued = False
        for item in items:
            if glued and isinstance(item, hx.Alternative) and item.is_optional:
                continue
            glued = isinstance(item, hx.ListReference) and not item.is_end_of_word
            kept.append(item)
        return kept


def canonical_value(out: Any) -> str:
    """A list's output value as text; where a word covers two values, the first stands for both."""
    return str(out[0] if isinstance(out, list) else out)


def _text(text: str) -> Writer:
    return lambda _: text


def _choice(items: list[Writer]) -> Writer | None:
    if len(items) <= 1:
        return items[0] if items else None
    return lambda draw: items[int(draw.rng.random() * len(items))](draw)


def _sequence(items: list[Writer]) -> Writer:
    return lambda draw: "".join([item(draw) for item in items])


def _shuffled(items: list[Writer]) -> Writer:
    return lambda draw: " ".join([item(draw) for item in draw.rng.sample(items, len(items))])


def _named(slot: str) -> Writer:
    def write(draw: Draw) -> str:
        if not draw.names:
            raise Conflict
        word, canonical = max(draw.names, key=lambda name: draw.prefers(slot, name[1]))
        draw.fill(slot, canonical)
        return word

    return write


def _valued(slot: str, values: list[tuple[Writer, str]]) -> Writer | None:
    """Writes one of ``values`` (writer, canonical): the scene picks the canonical value, a draw its wording."""
    if not values:
        return None
    wordings: dict[str, list[Writer]] = {}
    for writer, canonical in values:
        wordings.setdefault(canonical, []).append(writer)

    def write(draw: Draw) -> str:
        canonical = max(wordings, key=lambda value: draw.prefers(slot, value))
        draw.fill(slot, canonical)
        return draw.rng.choice(wordings[canonical])(draw)

    return write


_REPEATED = re.compile(r"\b(\w+)(\s+\1\b)+", re.IGNORECASE)
_SPACE_BEFORE = re.compile(r"\s+([,.;])")


def tidy(text: str) -> str:
    """White space collapsed; a word the template and the slot both brought ("ground floor floor") once."""
    return _SPACE_BEFORE.sub(r"\1", _REPEATED.sub(r"\1", " ".join(text.split()))).strip(" ,")
