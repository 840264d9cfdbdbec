"""The first place at which two JSON values differ."""

from __future__ import annotations

import math
from typing import Any

TOLERANCE = 1e-9
"""Relative: libraries may sum in another order on another machine."""


def first_difference(stored: Any, found: Any, path: str = "") -> str | None:
    """``rows.3.mean: says 0.52, the records give 0.48``; None where they are equal."""
    if isinstance(stored, dict) and isinstance(found, dict):
        for key in [*stored, *(key for key in found if key not in stored)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in found:
                return f"{place}: the records give none"
            if key not in stored:
                return f"{place}: missing"
            if difference := first_difference(stored[key], found[key], place):
                return difference
        return None
    if isinstance(stored, list) and isinstance(found, list):
        for index, (one, other) in enumerate(zip(stored, found, strict=False)):
            if difference := first_difference(one, other, f"{path}.{index}"):
                return difference
        return None if len(stored) == len(found) else f"{path}: {len(stored)} entries, the records give {len(found)}"
    if _same(stored, found):
        return None
    return f"{path}: says {stored!r}, the records give {found!r}"


def _same(stored: Any, found: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (stored, found))
    if numbers:
        return math.isclose(stored, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(stored) is type(found) and bool(stored == found)
