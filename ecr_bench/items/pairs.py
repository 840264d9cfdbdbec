"""Language pairs of the ``meaning`` task, written ``ru-en``: text in Russian, options in English."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ecr_bench.errors import UserError, unknown

KINDS = ("to-en", "from-en", "ring")


def pairs(languages: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """Pairs of ``kinds``, without repeats: X-en (to-en), en-X (from-en), each language with the next (ring).

    English is ``en``, or the first code that starts with ``en-``. The ring follows the order of the sorted codes.
    Raises UserError for an unknown kind.
    """
    codes = sorted(set(languages))
    english = next((code for code in codes if code.partition("-")[0] == "en"), "")
    result: list[tuple[str, str]] = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of language pair", kind, KINDS)
        if kind == "ring":
            result += zip(codes, [*codes[1:], *codes[:1]], strict=True)
        elif english:
            result += [(code, english) if kind == "to-en" else (english, code) for code in codes]
    return list(dict.fromkeys(f"{a}-{b}" for a, b in result if a != b))


def parse_pair(pair: str, languages: Collection[str]) -> tuple[str, str]:
    """Split ``ru-en`` (or ``zh-Hans-en``) at the hyphen that leaves two different ``languages``."""
    parts = pair.split("-")
    for cut in range(1, len(parts)):
        first, second = "-".join(parts[:cut]), "-".join(parts[cut:])
        if first in languages and second in languages and first != second:
            return first, second
    allowed = ", ".join(sorted(languages))
    raise UserError(f"language pair {pair!r}: write two different languages as A-B: allowed are {allowed}")
