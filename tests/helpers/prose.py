"""Differences and their intervals, in prose and on boards."""

from __future__ import annotations

import re

VALUE = r"[+−]\d+\.\d"
ESTIMATE = re.compile(rf"({VALUE})(?: points)?(?:,| \() ?({VALUE} to {VALUE})")


def estimates(text: str) -> set[tuple[str, str]]:
    """(difference, interval) of every difference that its interval follows at once."""
    return set(ESTIMATE.findall(" ".join(text.split())))
