"""The claims of a run as a table."""

from __future__ import annotations

from ecr_bench.report.tables import DASH, Table, short_p
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.words import amount, arms, correction, with_unit


def numbers(result: ClaimResult) -> tuple[str, str, str]:
    """Difference with its interval, corrected p, minimum detectable difference; dashes where not tested."""
    claim, found = result.claim, result.finding
    if found is None or result.p_holm is None:
        return DASH, DASH, DASH
    if found.covers == "nothing":
        return f"{with_unit(claim, found.difference)} (exact)", DASH, DASH
    ends = f"{amount(claim, found.low)} to {amount(claim, found.high)}"
    mdd = with_unit(claim, found.mdd).removeprefix("+")
    return f"{with_unit(claim, found.difference)} ({ends})", short_p(result.p_holm), mdd


def claims_table(report: ClaimsReport) -> Table:
    """One line per claim."""
    lines = tuple((r.claim.id, r.verdict, f"{arms(r)}, {r.claim.metric}", *numbers(r)) for r in report.results)
    caption = f"p: after {correction(report)}; MDD: minimum detectable difference (80 % power)"
    columns = ("claim", "verdict", "a - b", "difference (95 %)", "p (Holm)", "MDD")
    return Table("Claims", columns, (lines,), caption)
