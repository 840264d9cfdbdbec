"""From claims and a run's evidence to verdicts (docs/claims.md has the rule in full).

Let e be the difference in the claim's direction. Two tests, each corrected by Holm over the tested claims of the file:

* against no effect (non-inferiority: against the margin): significant and e on the claim's side: *supported*;
* against the smallest effect of interest: significant and e below it: *refuted*, as when the opposite is significant.

Anything else is *inconclusive*: a wide interval refutes nothing. A supported claim whose effect a control reaches as
well is *not attributable*; controls are not corrected for, since every one must be beaten (intersection-union test,
Berger 1982, Technometrics 24).
"""

from __future__ import annotations

from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.results.claim_names import check_names, resolve, setting
from ecr_bench.results.claim_schema import (
    Claim,
    ClaimResult,
    ClaimSet,
    ControlFinding,
    Finding,
    Verdict,
)
from ecr_bench.statistics.decision import decide
from ecr_bench.results.evidence import Facts, Found, NotTestedError, Side, difference
from ecr_bench.statistics.multiple import holm
from ecr_bench.statistics.interval import ALPHA
from ecr_bench.results.roles import REQUIRED_CONTROLS, attribute
from ecr_bench.results.words import controls_in_words, result_in_words, with_unit

FALLBACK_PRECISION = "fp32"
"""Where a control was not run in the claim's precision (a probe is never quantised)."""


@dataclass(frozen=True)
class Question:
    """A claim with the arms that its names stand for in a run."""

    claim: Claim
    a: Arm
    b: Arm

    @property
    def sides(self) -> tuple[Side, Side]:
        return Side(self.a, self.claim.precision), Side(self.b, self.claim.precision_b or self.claim.precision)


def evaluate(claims: ClaimSet, facts: Facts, source: str) -> tuple[ClaimResult, ...]:
    """One result per claim. UserError names ``source``, the claim and the wrong name."""
    for claim in claims.claims:
        check_names(claim, facts, source)
    found: dict[str, Found] = {}
    asked: dict[str, Question] = {}
    reasons: dict[str, str] = {}
    for claim in claims.claims:
        try:
            asked[claim.id] = Question(claim, resolve(claim.a, facts), resolve(claim.b, facts))
            if len(set(asked[claim.id].sides)) == 1:
                raise NotTestedError(f"a and b are the same arm, {asked[claim.id].a}")
            found[claim.id] = _test(asked[claim.id], facts)
        except NotTestedError as error:
            reasons[claim.id] = str(error)
    tested = [claim for claim in claims.claims if claim.id in found]
    against = holm([found[c.id].estimate.p_against(_null(c)) for c in tested])
    smaller = holm([found[c.id].estimate.p_against(_smallest(c)) for c in tested])
    corrected = {c.id: (p, q) for c, p, q in zip(tested, against, smaller, strict=True)}
    return tuple(
        _judge(asked[claim.id], facts, found[claim.id], *corrected[claim.id], len(tested))
        if claim.id in found
        else _not_tested(claim, asked.get(claim.id), reasons[claim.id])
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


def _test(question: Question, facts: Facts) -> Found:
    claim = question.claim
    for key, wanted in claim.requires.items():
        if (given := setting(facts.experiment, key)) != wanted:
            raise NotTestedError(f"it needs {key} = {wanted}, this run has {given}")
    found = difference(facts, claim, *question.sides)
    if claim.needs_b_above is not None and found.mean_b <= claim.needs_b_above:
        raise NotTestedError(f"{claim.metric} of {question.b} is {found.mean_b:.3g}: there is nothing to improve on")
    return found


def _judge(question: Question, facts: Facts, found: Found, p: float, p_smaller: float, tests: int) -> ClaimResult:
    claim = question.claim
    sign, estimate = _sign(claim), found.estimate
    thresholds = {"null": sign * _null(claim), "smallest": sign * _smallest(claim)}
    verdict: Verdict = decide(sign * estimate.value, p, **thresholds, p_smaller=p_smaller)
    if found.within_null and verdict == "supported":
        verdict = "inconclusive"
    controls = tuple(_controls(question, facts))
    required = [name for name in REQUIRED_CONTROLS if claim.controls is None or name in claim.controls]
    shown = attribute({c.arm: min(sign * c.low, sign * c.high) for c in controls}, required)
    if verdict == "supported" and (shown.anchors or shown.model):
        verdict = "not attributable to anchors" if shown.anchors else "not attributable to the language model"
    finding = Finding(
        difference=estimate.value, low=estimate.low, high=estimate.high, mean_a=found.mean_a, mean_b=found.mean_b,
        p=estimate.p_against(_null(claim)), mdd=estimate.detectable(tests), n_seeds=estimate.n_seeds,
        covers=estimate.covers, n_items=estimate.n_items, n_clusters=estimate.n_clusters,
    )  # fmt: skip
    result = ClaimResult(
        claim=claim, a=question.a, b=question.b, verdict=verdict, sentence="", finding=finding, p_holm=p, p_smaller_holm=p_smaller,
        controls=controls, as_good=(*shown.anchors, *shown.model), untested_controls=shown.untested, evidence=found.evidence,
    )  # fmt: skip
    reason = _reason(result, found)
    return result.model_copy(update={"sentence": f"{result_in_words(result, finding, p)} {reason}".strip()})


def _controls(question: Question, facts: Facts) -> list[ControlFinding]:
    claim, a = question.claim, question.sides[0]
    result = []
    for control in facts.cast.controls(question.a.size):
        if claim.controls is not None and control.name not in claim.controls:
            continue
        for precision in dict.fromkeys((claim.precision, FALLBACK_PRECISION)):
            try:
                estimate = difference(facts, claim, a, Side(control, precision)).estimate
            except NotTestedError:
                continue
            low = min(_sign(claim) * estimate.low, _sign(claim) * estimate.high)
            ends = {"difference": estimate.value, "low": estimate.low, "high": estimate.high}
            result.append(ControlFinding(arm=control, precision=precision, **ends, beaten=low > 0))
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
    for role, what in ((Role.ANCHOR_CONTROL, "anchors"), (Role.MODEL_CONTROL, "the language model")):
        if as_good := [c for c in result.controls if c.arm.role is role and not c.beaten]:
            parts.append(f"Not attributable to {what}: {controls_in_words(result, as_good)}.")
    if result.untested_controls:
        parts.append(f"Attribution is untested for lack of {', '.join(result.untested_controls)}.")
    return " ".join(parts)


def _not_tested(claim: Claim, question: Question | None, reason: str) -> ClaimResult:
    arms = {"a": question.a, "b": question.b} if question else {"a": None, "b": None}
    return ClaimResult(
        claim=claim, **arms, verdict="not tested", sentence=f"Not tested: {reason}.", finding=None, p_holm=None,
        p_smaller_holm=None, controls=(), as_good=(), untested_controls=(), evidence=(),
    )  # fmt: skip
