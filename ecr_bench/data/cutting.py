"""Where unlabelled text is cut in two: between tokens of the whole text, and at the end of a word where one is near."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

SHARE = (0.3, 0.7)
"""Where a text may be cut, as a share of its characters."""


@dataclass(frozen=True)
class TextRow:
    """Unlabelled text cut in two: control tokens may see ``text[:cut]`` only, the loss covers the rest.

    ``cut`` 0 is a text that cannot be cut, such as a single token: nothing to look at, loss on all of it.
    """

    text: str
    lang: str
    cut: int
    whole: bool = False
    """Control tokens see all of the text and the loss covers all of it; ``cut`` is 0."""

    @property
    def cue(self) -> str:
        """What control tokens may see."""
        return self.text if self.whole else self.text[: self.cut]


def whole_texts(rows: Iterable[tuple[str, str]]) -> list[TextRow]:
    """Each (text, lang) for pre-training: nothing is predicted that its own codes do not stand in front of."""
    return [TextRow(text, lang, 0, whole=True) for text, lang in rows]


def cut_texts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[str, str]], seed: int) -> list[TextRow]:
    """Cut each (text, lang) near a character drawn between 30 % and 70 % of its length.

    The tokens of the two parts are those of the whole text. In this order of preference, the nearest place between
    30 % and 70 % where a word ends; the nearest end of a token.
    """
    rng = random.Random(seed)
    wanted = [len(text) * rng.uniform(*SHARE) for text, _ in rows]
    if not rows:
        return []
    whole = tokenizer([text for text, _ in rows], add_special_tokens=False, return_offsets_mapping=True)
    chosen = []
    for index, (text, lang) in enumerate(rows):
        ids, offsets = whole["input_ids"][index], whole["offset_mapping"][index]
        places = _places(text, offsets, wanted[index])
        # an end of a token is not always one when the text ends there: spaces in a row may be tokenised otherwise
        cut = next((at for at in places if _starts(tokenizer, text[:at], ids)), 0)
        chosen.append(TextRow(text, lang, cut))
    return chosen


def _starts(tokenizer: PreTrainedTokenizerBase, beginning: str, ids: Sequence[int]) -> bool:
    own = tokenizer(beginning, add_special_tokens=False)["input_ids"]
    return own == ids[: len(own)] and len(own) < len(ids)


def _places(text: str, offsets: Sequence[tuple[int, int]], wanted: float) -> Iterator[int]:
    """Ends of tokens in ``text``, best first: no space before, text behind, and no character taken apart."""
    ends = set()
    for (_, end), (start, _) in pairwise(offsets):
        if 0 < end <= start < len(text) and not text[end - 1].isspace() and not _belongs_to_the_last(text[end]):
            ends.add(end)
    low, high = (len(text) * share for share in SHARE)

    def worse(at: int) -> tuple[bool, float, int]:
        inside = _in_word(text[at - 1]) and _in_word(text[at])
        return inside or not low <= at <= high, abs(at - wanted), at

    return iter(sorted((at for at in ends if text[at:].strip()), key=worse))


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def _belongs_to_the_last(character: str) -> bool:
    """Whether it changes the character before it: accents, vowel signs, joiners."""
    return unicodedata.category(character)[0] == "M" or unicodedata.category(character) == "Cf"
