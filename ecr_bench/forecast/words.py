"""How costs are written."""

from __future__ import annotations

from ecr_bench.formats import DASH


def duration(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds is None:
        return DASH
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size(count: float | None) -> str:
    """Bytes: ``812 MB``, ``3.1 GB``."""
    if count is None:
        return DASH
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def off(expected: float, measured: float) -> str:
    """``+9 %``: how far what was measured lies above what was expected."""
    return f"{100 * (measured / expected - 1):+.0f} %"


def many(count: int, what: str) -> str:
    """``1 stage``, ``2 stages``."""
    return f"{count} {what}{'s' * (count != 1)}"
