"""How a number is written, everywhere: one function for each kind of number. What was not measured is a dash."""

from __future__ import annotations

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
TIED = "*"


def percent(share: float | None) -> str:
    """``0.5234`` -> ``52.3``."""
    return DASH if share is None else f"{100 * share:.1f}"


def points(difference: float) -> str:
    """``0.0612`` -> ``+6.1``: percentage points with sign."""
    return f"{100 * difference:+.1f}".replace("-", MINUS)


def interval(ci: tuple[float, float]) -> str:
    """Both ends of a difference in percentage points."""
    return f"{points(ci[0])} to {points(ci[1])}"


def estimate(difference: float, ci: tuple[float, float]) -> str:
    """``+6.1 (+2.0 to +10.1)``."""
    return f"{points(difference)} ({interval(ci)})"


def level(share: float, ci: tuple[float, float]) -> str:
    """``52.3 (50.1 to 54.4)``: a share in percent with its interval."""
    return f"{percent(share)} ({percent(ci[0])} to {percent(ci[1])})"


def half_interval(share: float, ci: tuple[float, float]) -> str:
    """``52.3 ±2.1``: the same with half the width of the interval, for narrow columns."""
    return f"{percent(share)} ±{50 * (ci[1] - ci[0]):.1f}"


def p_value(p: float) -> str:
    """``.012``, ``<.001``."""
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def p_in_words(p: float) -> str:
    """``p = .012``, ``p < .001``."""
    text = p_value(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def number(value: float | None, digits: int | None = None) -> str:
    """A number without a unit: two decimals, none from 100 on, ``1.2e17`` where that is shorter, or as many decimals
    as ``digits``; never a negative zero."""
    if value is None:
        return DASH
    if digits is None and abs(value) >= 1e7:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    digits = (2 if abs(value) < 100 else 0) if digits is None else digits
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def count(value: float | None) -> str:
    """``360000`` -> ``0.36M``, ``2970000`` -> ``2.97M``, ``106000000`` -> ``106M``, ``8000`` -> ``8.0k``: parameters,
    tokens, bytes."""
    if value is None:
        return DASH
    for unit, size, least in (("G", 1e9, 1e9), ("M", 1e6, 1e5)):
        if value >= least:
            return f"{value / size:.2f}{unit}" if value < 10 * size else f"{value / size:.0f}{unit}"
    return f"{value / 1e3:.1f}k" if value >= 1e3 else f"{value:.0f}"


def with_side(model: float | None, side: float | None) -> str:
    """``0.99M+0.40M``: a count of the language model, and of projection and anchors beside it."""
    return f"{count(model)}+{count(side)}" if side else count(model)


def extra(tokens: float) -> str:
    """``+4``, ``+3.5``: control tokens per item."""
    return f"+{tokens:.1f}".removesuffix(".0")


def many(n: int, what: str) -> str:
    """``1 stage``, ``2 stages``."""
    return f"{n} {what}{'s' * (n != 1)}"


def seeds(n: int) -> str:
    """``1 seed``, ``2 seeds``."""
    return many(n, "seed")


def duration(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds is None:
        return DASH
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size(bytes: float | None) -> str:
    """Bytes: ``812 bytes``, ``65 kB``, ``1.52 MB``, ``812 MB``, ``3.1 GB``."""
    if bytes is None:
        return DASH
    if bytes < 1e3:
        return f"{bytes:.0f} bytes"
    if bytes < 1e6:
        return f"{bytes / 1e3:.0f} kB"
    if bytes < 1e9:
        return f"{bytes / 1e6:.{2 if bytes < 1e7 else 0}f} MB"
    return f"{bytes / 1e9:.1f} GB"


def off(expected: float, measured: float) -> str:
    """``+9 %``: how far what was measured lies above what was expected."""
    return f"{100 * (measured / expected - 1):+.0f} %"
