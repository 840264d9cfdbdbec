"""From claims and a run's evidence to verdicts (docs/claims.md has the rule in full).

Let e be the difference in the claim's direction. Two tests, each corrected by Holm over the tested claims of the file:

* against no effect (non-inferiority: against the margin): significant and e on the claim's side: *supported*;
* against the smallest effect of interest: significant and e below it: *refuted*, as when the opposite is significant.

Anything else is *inconclusive*: a wide interval refutes nothing. A supported claim whose effect a control reaches as
well is *not attributable*; controls are not corrected for, since every one must be beaten (intersection-union test,
Berger 1982, Technometrics 24).
"""

from __future__ import annotations

from typing import Any, get_args

from ecr_bench.config import Precision
from ecr_bench.errors import UserError, unknown
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.registry import METHODS
from ecr_bench.metrics.registry import METRICS
from ecr_bench.statistics.claim_schema import (
    ACCURACY,
    COSTS,
    Claim,
    ClaimResult,
    ClaimSet,
    ControlFinding,
    Finding,
    Verdict,
)
from ecr_bench.statistics.decision import decide
from ecr_bench.statistics.evidence import Found, NotTestedError, Run, Side, difference
from ecr_bench.statistics.interval import ALPHA
from ecr_bench.statistics.multiple import holm
from ecr_bench.statistics.panel import arm_name
from ecr_bench.statistics.roles import ANCHOR_CONTROLS, MODEL_CONTROLS, REQUIRED_CONTROLS, attribute
from ecr_bench.statistics.words import controls_in_words, result_in_words, with_unit

FALLBACK_PRECISION = "fp32"
"""Where a control was not run in the claim's precision (a probe is never quantised)."""


def evaluate(claims: ClaimSet, run: Run, source: str) -> tuple[ClaimResult, ...]:
    """One result per claim. UserError names ``source``, the claim and the wrong name."""
    for claim in claims.claims:
        _check_names(claim, run, source)
    found: dict[str, Found] = {}
    reasons: dict[str, str] = {}
    for claim in claims.claims:
        try:
            found[claim.id] = _test(claim, run)
        except NotTestedError as error:
            reasons[claim.id] = str(error)
    tested = [claim for claim in claims.claims if claim.id in found]
    against = holm([found[c.id].estimate.p_against(_null(c)) for c in tested])
    smaller = holm([found[c.id].estimate.p_against(_smallest(c)) for c in tested])
    corrected = {c.id: (p, q) for c, p, q in zip(tested, against, smaller, strict=True)}
    return tuple(
        _judge(claim, run, found[claim.id], *corrected[claim.id], len(tested))
        if claim.id in found
        else _not_tested(claim, reasons[claim.id])
        for claim in claims.claims
    )


def _sign(claim: Claim) -> int:
    return 1 if claim.direction == "higher" else -1


def _null(claim: Claim) -> float:
    """The difference a claim must be shown to exceed, in its direction."""
    return 0.0 if claim.test == "superiority" else -_sign(claim) * claim.smallest_effect


def _smallest(claim: Claim) -> float:
    """The difference that refutes a claim when it lies on the wrong side of it."""
    return _sign(claim) * claim.smallest_effect if claim.test == "superiority" else _null(claim)


def _test(claim: Claim, run: Run) -> Found:
    for key, wanted in claim.requires.items():
        if (given := _setting(run.experiment, key)) != wanted:
            raise NotTestedError(f"it needs {key} = {wanted}, this run has {given}")
    found = difference(run, claim, Side(claim.b, claim.precision_b or claim.precision))
    if claim.needs_b_above is not None and found.mean_b <= claim.needs_b_above:
        raise NotTestedError(f"{claim.metric} of {claim.b} is {found.mean_b:.3g}: there is nothing to improve on")
    return found


def _setting(experiment: dict[str, Any], dotted: str) -> Any:
    node: Any = experiment
    for step in dotted.split("."):
        node = node.get(step) if isinstance(node, dict) else None
    return node


def _judge(claim: Claim, run: Run, found: Found, p: float, p_smaller: float, tests: int) -> ClaimResult:
    sign, estimate = _sign(claim), found.estimate
    thresholds = {"null": sign * _null(claim), "smallest": sign * _smallest(claim)}
    verdict: Verdict = decide(sign * estimate.value, p, **thresholds, p_smaller=p_smaller)
    if found.within_null and verdict == "supported":
        verdict = "inconclusive"
    controls = tuple(_controls(claim, run))
    lower = {c.method: min(sign * c.low, sign * c.high) for c in controls}
    anchors, model, _ = attribute(lower)
    if verdict == "supported" and (anchors or model):
        verdict = "not attributable to anchors" if anchors else "not attributable to the language model"
    finding = Finding(
        difference=estimate.value, low=estimate.low, high=estimate.high, mean_a=found.mean_a, mean_b=found.mean_b,
        p=estimate.p_against(_null(claim)), mdd=estimate.detectable(tests), n_seeds=estimate.n_seeds,
        covers=estimate.covers, n_items=estimate.n_items, n_clusters=estimate.n_clusters,
    )  # fmt: skip
    untested = tuple(c for c in claim.controls if c not in lower and c in REQUIRED_CONTROLS)
    result = ClaimResult(
        claim=claim, verdict=verdict, sentence="", finding=finding, p_holm=p, p_smaller_holm=p_smaller,
        controls=controls, as_good=(*anchors, *model), untested_controls=untested, evidence=found.evidence,
    )  # fmt: skip
    reason = _reason(result, found)
    return result.model_copy(update={"sentence": f"{result_in_words(claim, finding, p)} {reason}".strip()})


def _controls(claim: Claim, run: Run) -> list[ControlFinding]:
    size = claim.a.rpartition("-")[2]
    result = []
    for method in claim.controls:
        for precision in dict.fromkeys((claim.precision, FALLBACK_PRECISION)):
            try:
                estimate = difference(run, claim, Side(arm_name(method, size), precision)).estimate
            except NotTestedError:
                continue
            low = min(_sign(claim) * estimate.low, _sign(claim) * estimate.high)
            ends = {"difference": estimate.value, "low": estimate.low, "high": estimate.high}
            result.append(ControlFinding(method=method, precision=precision, **ends, beaten=low > 0))
            break
    return result


def _reason(result: ClaimResult, found: Found) -> str:
    """Why the verdict is what it is, beyond the numbers."""
    claim, sign, estimate = result.claim, _sign(result.claim), found.estimate
    smallest = with_unit(claim, _smallest(claim))
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if result.verdict == "refuted":
        if sign * estimate.value < sign * _null(claim) and result.p_holm is not None and result.p_holm < ALPHA:
            return "The opposite holds." if claim.test == "superiority" else f"It exceeds the margin, {smallest}."
        return f"Any effect is smaller than the smallest of interest, {smallest}."
    if result.verdict == "inconclusive":
        if found.within_null:
            return "Both arms lie inside the permutation null: there is nothing to compare."
        if low > sign * _null(claim) or high < sign * _smallest(claim):
            return "Not significant after correction for the other claims."
        both = "no effect" if claim.test == "superiority" else "less"
        other = f"the smallest effect of interest, {smallest}" if both == "no effect" else f"more than {smallest}"
        return f"The interval holds both {both} and {other}."
    parts = []
    for names, what in ((ANCHOR_CONTROLS, "anchors"), (MODEL_CONTROLS, "the language model")):
        if as_good := [c for c in result.controls if c.method in names and not c.beaten]:
            parts.append(f"Not attributable to {what}: {controls_in_words(claim, as_good)}.")
    if result.untested_controls:
        parts.append(f"Attribution is untested for lack of {', '.join(result.untested_controls)}.")
    return " ".join(parts)


def _not_tested(claim: Claim, reason: str) -> ClaimResult:
    return ClaimResult(
        claim=claim, verdict="not tested", sentence=f"Not tested: {reason}.", finding=None, p_holm=None,
        p_smaller_holm=None, controls=(), as_good=(), untested_controls=(), evidence=(),
    )  # fmt: skip


def _check_names(claim: Claim, run: Run, source: str) -> None:
    """A name that no run could have is an error; one that this run lacks leaves the claim untested."""
    where = f"{source}: claim {claim.id}: "
    for arm in (claim.a, claim.b):
        if arm not in run.arms() and arm.rpartition("-")[0].partition("[")[0] not in METHODS:
            raise _named(where, unknown("method of arm", arm, METHODS))
    metrics = {ACCURACY, *COSTS, *METRICS, *(m.metric for m in run.measures)}
    if claim.metric not in metrics:
        raise _named(where, unknown("metric", claim.metric, metrics))
    tasks = {"all", "coarse", "fine", *TASKS, *(task for panel in run.panels.values() for task in panel.tasks)}
    if claim.task not in tasks:
        raise _named(where, unknown("task", claim.task, tasks))
    precisions = {*get_args(Precision), *(unit.precision for panel in run.panels.values() for unit in panel.units)}
    for precision in (claim.precision, claim.precision_b or claim.precision):
        if precision not in precisions:
            raise _named(where, unknown("precision", precision, precisions))
    for key in claim.requires:
        _check_setting(run.experiment, key, where)


def _check_setting(experiment: dict[str, Any], dotted: str, where: str) -> None:
    node: Any = experiment
    for step in dotted.split(".") if experiment else ():
        if not isinstance(node, dict) or step not in node:
            allowed = ", ".join(sorted(node)) if isinstance(node, dict) else "none (it is a value)"
            raise UserError(f"{where}requires: unknown key {dotted!r}: allowed here are {allowed}")
        node = node[step]


def _named(where: str, error: UserError) -> UserError:
    return UserError(f"{where}{error}")
