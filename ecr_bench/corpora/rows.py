"""One row of a corpus to be, and the forms of its texts that decisions are made by."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import NamedTuple, get_args

from ecr_bench.types import Split

SPLITS: tuple[str, ...] = get_args(Split)


class RawRow(NamedTuple):
    """One sentence as a plugin yields it; ``split`` empty means 'draw it from the unit'."""

    text: str
    lang: str
    meaning: str
    label: str
    unit: str
    slots: str = "{}"
    split: str = ""


class _ToSpace(dict[int, int]):
    """Translation table, filled on demand, that maps every punctuation, separator and control character to a space."""

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = 32 if category[0] in "PZ" or category == "Cc" else code
        return self[code]


_TO_SPACE = _ToSpace()


def normalise(text: str) -> str:
    """The form duplicates are compared in: NFKC, case-folded, punctuation and white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_TO_SPACE).split())


def digest(text: str) -> bytes:
    """Eight bytes that stand for ``text`` in a draw."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
