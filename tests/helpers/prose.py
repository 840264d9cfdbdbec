"""Differences and their intervals, in prose and on boards."""

from __future__ import annotations

import re
from typing import NamedTuple

NUMBER = r"(?<![\w.+−-])[+−-]?\d+(?:\.\d+)?(?!\d|\.\d)"
SIDES = {"ahead": "+", "above": "+", "behind": "−", "below": "−"}
"""What stands behind a difference in the place of its sign: 31.2 points behind."""
TOKEN = re.compile(
    r"(?P<end>\n(?=\s*(?:\n|[-*|#] )))"
    rf"|(?P<low>{NUMBER})\s+to\s+(?P<high>{NUMBER})"
    rf"|(?P<size>{NUMBER})(?:\s+points?)?\s+(?P<side>{'|'.join(SIDES)})\b"
    rf"|(?P<number>{NUMBER})(?P<set_off>\**\s*(?=[(\[]))?"
)


class Estimate(NamedTuple):
    """An interval in a text, and the difference it is of: the last before it in its paragraph, line of a list or row
    of a table."""

    difference: str
    """Empty where there is none."""
    interval: str
    at: int
    """Where in the text the interval begins."""


def stated(text: str) -> list[Estimate]:
    """Every interval, ``X to Y`` with a sign at either end, however it is set off and whatever stands before it."""
    found, difference = [], ""
    for token in TOKEN.finditer(text):
        if token["low"]:
            ends = token["low"], token["high"]
            if any(map(_has_sign, ends)):
                found.append(Estimate(difference, " to ".join(_signed(end) or end for end in ends), token.start()))
        elif token["size"]:
            difference = _signed(token["size"].lstrip("+−-"), SIDES[token["side"]])
        elif token["number"]:
            difference = _signed(token["number"]) or _claimed(token) or difference
        else:
            difference = ""
    return found


def estimates(text: str) -> set[tuple[str, str]]:
    """(difference, interval) of every interval that is one of a difference."""
    return {(one.difference, one.interval) for one in stated(text) if one.difference}


def _claimed(token: re.Match[str]) -> str:
    """A number that a bracket follows at once, as an interval would; no board has a difference without a sign."""
    return token["number"] if token["set_off"] is not None and "." in token["number"] else ""


def _has_sign(number: str) -> bool:
    return number[0] in "+−-"


def _signed(number: str, sign: str = "") -> str:
    """As boards have it; zero without a sign, since boards round to either. Empty for what is no difference."""
    size = number.lstrip("+−-")
    if "." in size and not float(size):
        return size
    sign = sign or (number[0] if _has_sign(number) else "")
    return f"{sign.replace('-', '−')}{size}" if sign else ""
