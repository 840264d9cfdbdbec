"""Comparisons of a board in plain words."""

from __future__ import annotations

from collections.abc import Mapping

from ecr_bench.formats import MINUS, interval, p_in_words, points
from ecr_bench.results.judgement import SMALLEST_EFFECT, Judged
from ecr_bench.results.schema import Attribution, Contrast
from ecr_bench.statistics.interval import ALPHA

NO_POWER = "this run has too few seeds to detect even the largest difference reliably"


def contrast_in_words(c: Contrast, judged: Judged) -> str:
    """One sentence with estimate, intervals, corrected p and minimum detectable difference."""
    a, b = str(c.a), str(c.b)
    if c.precision != c.precision_b:
        a, b = f"{a} in {c.precision}", f"{b} in {c.precision_b}"
    numbers = _numbers(c)
    apart = f"{abs(100 * c.difference):.1f} points {'above' if c.difference > 0 else 'below'}"
    if judged.obstacle:
        return f"{a} is {apart} {b}, but {judged.obstacle}: {numbers}."
    if judged.answer == "supported":
        return f"{a} is {apart} {b}: {numbers}."
    if judged.answer == "refuted" and c.difference < 0 and c.p_holm < ALPHA:
        return f"{a} is {apart} {b}: {numbers}."
    if judged.answer == "refuted":
        small = f"{100 * SMALLEST_EFFECT:.0f} point"
        return f"{a} is not the {small} above {b} that would matter: {points(c.difference)} points, {numbers}."
    if c.ci[0] * c.ci[1] > 0:
        return f"{a} is {apart} {b}, but not significantly after correction for the other tests: {numbers}."
    return f"{a} and {b} cannot be told apart: {points(c.difference)} points, {numbers}."


def _numbers(c: Contrast) -> str:
    beyond = ", ".join(f"for {covers} {interval(ends)}" for covers, ends in c.wider.items())
    limits = f"95 % interval {interval(c.ci)}" + (f" ({beyond})" if beyond else "")
    return f"{limits}, {p_in_words(c.p_holm)}; {power_in_words(c.mdd)}"


def power_in_words(mdd: float) -> str:
    """From which difference of accuracies (0..1) on a run finds it in four of five cases, if from any."""
    if mdd >= 1:
        return NO_POWER
    return f"this run can detect differences from {100 * mdd:.1f} points"


def attribution_in_words(found: Attribution, tests: Mapping[str, tuple[float, float, float]]) -> str:
    """What the controls say. ``tests``: control -> main minus control with its interval."""
    parts = []
    for names, what in ((found.anchors, "anchors"), (found.model, "the language model")):
        if names:
            shown = "; ".join(_control(name, *tests[name], better=name in found.better) for name in names)
            parts.append(f"Not attributable to {what}: {shown}.")
    if found.beaten and not found.anchors and not found.model:
        parts.append(f"ECR beats every control that was run ({', '.join(found.beaten)}).")
    if found.untested:
        parts.append(f"Attribution is untested for lack of {', '.join(found.untested)}.")
    return " ".join(parts)


def _control(name: str, difference: float, low: float, high: float, better: bool) -> str:
    word = "does better" if better else "is not shown to be worse"
    return f"{name} {word} (ECR {MINUS} {name}: {points(difference)} points, {interval((low, high))})"
