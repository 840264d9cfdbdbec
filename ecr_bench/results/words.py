"""Numbers and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable

from ecr_bench.formats import MINUS, p_in_words, percent, points
from ecr_bench.results.claim_schema import ACCURACY, COSTS, Claim, ClaimResult, ClaimsReport, ControlFinding, Finding
from ecr_bench.results.sentences import NO_POWER


def covered(covers: Iterable[str]) -> str:
    """What the intervals of a table cover, once each: ``items and seeds``, ``or items`` where arms have one seed."""
    return " or ".join(sorted(set(covers), reverse=True))


def unit(claim: Claim) -> str:
    """What the difference of a claim is counted in."""
    if claim.metric == ACCURACY:
        return "points"
    return "%" if claim.metric in COSTS else ""


def amount(claim: Claim, value: float) -> str:
    """A difference with sign in the unit of its claim, without the unit: ``+6.1``, ``+0.0312``."""
    if unit(claim):
        return points(value)
    return f"{value:+.3g}".replace("-", MINUS)


def with_unit(claim: Claim, value: float) -> str:
    return f"{amount(claim, value)} {unit(claim)}".strip()


def level(claim: Claim, value: float) -> str:
    """What one arm reached, not a difference."""
    if claim.metric == ACCURACY:
        return f"{percent(value)} %"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}".replace("-", MINUS)


def arms(result: ClaimResult) -> str:
    """``ecr-1x - finetune-3x``, with precisions where they differ; the claim's own names where the run has no such
    arm."""
    claim, a, b = result.claim, result.a or result.claim.a, result.b or result.claim.b
    if claim.precision_b and claim.precision_b != claim.precision:
        return f"{a} ({claim.precision}) {MINUS} {b} ({claim.precision_b})"
    return f"{a} {MINUS} {b}"


def result_in_words(result: ClaimResult, found: Finding, p_holm: float) -> str:
    """Estimate, interval, p and minimum detectable difference."""
    claim = result.claim
    text = f"{arms(result)}: {with_unit(claim, found.difference)} in {claim.metric}"
    text += f" ({level(claim, found.mean_a)} against {level(claim, found.mean_b)})"
    if found.covers == "nothing":
        return f"{text}, a count without error."
    ends = f"{amount(claim, found.low)} to {with_unit(claim, found.high)}"
    power = f"this run can detect {with_unit(claim, found.mdd).removeprefix('+')}"
    if claim.metric == ACCURACY and found.mdd >= 1:
        power = NO_POWER
    return f"{text}, 95 % interval {ends} over {found.covers}, {p_in_words(p_holm)} after correction; {power}."


def controls_sentence(result: ClaimResult) -> str:
    """``better: codes-only; not beaten: random``; empty where every control is beaten or none applies."""
    parts = (("better", result.better), ("not beaten", result.not_beaten))
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)


def correction(report: ClaimsReport) -> str:
    """What the corrected p of a claim is corrected over."""
    return f"Holm's correction, over the tests of its question on the board or over the {report.corrected} other claims"


def controls_in_words(result: ClaimResult, held: list[ControlFinding]) -> str:
    """``random is not shown to be worse (ecr-1x - random: +0.1 points, -0.9 to +1.1)``, joined."""
    claim = result.claim
    ahead = result.a if claim.ahead == "a" else result.b
    parts = []
    for c in held:
        better = max(claim.sign * c.low, claim.sign * c.high) < 0
        word = "does better" if better else "is not shown to be worse"
        ends = f"{amount(claim, c.low)} to {amount(claim, c.high)}"
        name = c.arm.name
        parts.append(f"{name} {word} ({ahead} {MINUS} {name}: {with_unit(claim, c.difference)}, {ends})")
    return "; ".join(parts)
