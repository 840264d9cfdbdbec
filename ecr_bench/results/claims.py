"""From claims and a run's evidence to verdicts (docs/claims.md has the rule in full).

Let e be the difference in the claim's direction. Two tests, each corrected by Holm: with the board's own family where
the two arms meet there, so that one comparison has one p, else over the claims that are not on the board:

* against no effect (non-inferiority: against the margin): significant and e on the claim's side: *supported*;
* against the smallest effect of interest: significant and e below it: *refuted*, as when the opposite is significant.

Anything else is *inconclusive*: a wide interval refutes nothing; so is what rests on one seed or on an arm at chance. A
supported claim whose effect a control reaches as
well is *not attributable*; controls are not corrected for, since every one must be beaten (intersection-union test,
Berger 1982, Technometrics 24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.methods.registry import role_of
from ecr_bench.results.claim_names import check_names, resolve
from ecr_bench.results.claim_schema import ACCURACY, COSTS, Claim, ClaimResult, ClaimSet, ControlFinding, Finding
from ecr_bench.results.claim_settings import NotTestedError, told_apart_by, unmet
from ecr_bench.results.evidence import Facts, Found, Side, difference
from ecr_bench.results.judgement import SMALLEST_EFFECT, Judged, Standing, Thresholds, judge_difference, word_of
from ecr_bench.results.roles import REQUIRED_CONTROLS, attribute
from ecr_bench.results.schema import Attribution, Contrast
from ecr_bench.results.words import controls_in_words, result_in_words, with_unit
from ecr_bench.statistics.by_seed import MIN_SEEDS
from ecr_bench.statistics.interval import ALPHA, Estimate
from ecr_bench.statistics.multiple import holm


@dataclass(frozen=True)
class ResolvedClaim:
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
    asked: dict[str, ResolvedClaim] = {}
    reasons: dict[str, str] = {}
    for claim in claims.claims:
        try:
            a, b = (resolve(name, facts, claim.pool_settings) for name in (claim.a, claim.b))
            asked[claim.id] = ResolvedClaim(claim, a, b)
            if len(set(asked[claim.id].sides)) == 1:
                raise NotTestedError(f"a and b are the same arm, {asked[claim.id].a}")
            found[claim.id] = _test(asked[claim.id], facts)
        except NotTestedError as error:
            reasons[claim.id] = str(error)
    corrected = _corrected([(asked[name], estimate.estimate) for name, estimate in found.items()], facts)
    return tuple(
        _judge(asked[claim.id], facts, found[claim.id], corrected[claim.id])
        if claim.id in found
        else _not_tested(claim, asked.get(claim.id), reasons[claim.id])
        for claim in claims.claims
    )


@dataclass(frozen=True)
class Corrected:
    """P-values after Holm's correction, and what the rule that uses them can detect."""

    p: float
    p_smaller: float
    mdd: float
    on_board: bool
    """The board's own; else over the claims that are not on it."""


def _corrected(tested: Sequence[tuple[ResolvedClaim, Estimate]], facts: Facts) -> dict[str, Corrected]:
    """Claim -> its p-values. Who meets on the board has one p there and here; the board's p of the smallest effect is
    taken where the claim's smallest effect is the board's."""
    boards = {question.claim.id: on_board(question, facts) for question, _ in tested}
    own = [(question.claim, found) for question, found in tested if boards[question.claim.id] is None]
    against = dict(zip((c.id for c, _ in own), holm([e.p_against(_null(c)) for c, e in own]), strict=True))
    asked = [(q.claim, e) for q, e in tested if not same_question(q, boards[q.claim.id])]
    smaller = dict(zip((c.id for c, _ in asked), holm([e.p_against(_smallest(c)) for c, e in asked]), strict=True))
    result = {}
    for question, estimate in tested:
        name = question.claim.id
        contrast = boards[name]
        if contrast is None:
            result[name] = Corrected(against[name], smaller[name], estimate.detectable(len(own)), False)
        else:
            p_smaller = smaller.get(name, contrast.p_smaller_holm)
            assert p_smaller is not None
            result[name] = Corrected(contrast.p_holm, p_smaller, contrast.mdd, True)
    return result


def on_board(question: ResolvedClaim, facts: Facts) -> Contrast | None:
    """The board's test of the same two arms, if it has one that is corrected."""
    claim = question.claim
    if claim.metric != ACCURACY or claim.test != "superiority":
        return None
    found = facts.contrast(*question.sides, claim.group, claim.task)
    return found if found and found.p_smaller_holm is not None else None


def same_question(question: ResolvedClaim, contrast: Contrast | None) -> bool:
    """Whether the board asks the very same: same direction, same smallest effect."""
    if contrast is None:
        return False
    a, claim = Side(contrast.a, contrast.precision), question.claim
    forward = (question.sides[0] == a) == (claim.direction == "higher")
    return forward and claim.smallest_effect == SMALLEST_EFFECT


def _sign(claim: Claim) -> int:
    return 1 if claim.direction == "higher" else -1


def _null(claim: Claim) -> float:
    """The difference a claim must be shown to exceed, in its direction."""
    return 0.0 if claim.test == "superiority" else -_sign(claim) * claim.smallest_effect


def _smallest(claim: Claim) -> float:
    """The difference that refutes a claim when it lies on the wrong side of it."""
    return _sign(claim) * claim.smallest_effect if claim.test == "superiority" else _null(claim)


def _test(question: ResolvedClaim, facts: Facts) -> Found:
    claim = question.claim
    for arm in (question.a, question.b):
        forms = facts.forms(arm, claim.pool_settings)
        lacking = [unmet(claim, form, facts.experiments_of(form)) for form in forms]
        if lacking and None not in lacking:
            raise NotTestedError(" and ".join(dict.fromkeys(filter(None, lacking))))
    found = difference(facts, claim, *question.sides)
    if claim.needs_b_above is not None and found.mean_b <= claim.needs_b_above:
        raise NotTestedError(f"{claim.metric} of {question.b} is {found.mean_b:.3g}: there is nothing to improve on")
    return found


def _judge(question: ResolvedClaim, facts: Facts, found: Found, corrected: Corrected) -> ClaimResult:
    claim = question.claim
    sign, estimate = _sign(claim), found.estimate
    thresholds = Thresholds(null=sign * _null(claim), smallest=sign * _smallest(claim))
    standings = _standings(question, facts, estimate)
    judged = judge_difference(sign * estimate.value, corrected.p, corrected.p_smaller, thresholds, *standings)
    if found.within_null and judged.answer == "supported":
        judged = Judged("inconclusive", "both lie inside the permutation null, so there is nothing to compare")
    controls = tuple(_controls(question, facts))
    shown = _attribution(question, facts, controls)
    finding = Finding(
        difference=estimate.value, low=estimate.low, high=estimate.high, mean_a=found.mean_a, mean_b=found.mean_b,
        p=estimate.p_against(_null(claim)), mdd=corrected.mdd, n_seeds=estimate.n_seeds, covers=estimate.covers,
        n_items=estimate.n_items, n_clusters=estimate.n_clusters,
    )  # fmt: skip
    held = (*shown.anchors, *shown.model) if shown else ()
    better = shown.better if shown else ()
    result = ClaimResult(
        claim=claim, a=question.a, b=question.b, verdict=word_of(judged.answer, shown), sentence="", finding=finding,
        p_holm=corrected.p, on_board=corrected.on_board, p_smaller_holm=corrected.p_smaller, controls=controls,
        not_beaten=tuple(name for name in held if name not in better), better=better,
        untested_controls=shown.untested if shown else (), evidence=found.evidence,
    )  # fmt: skip
    reason = _reason(result, judged)
    return result.model_copy(update={"sentence": f"{result_in_words(result, finding, corrected.p)} {reason}".strip()})


def _standings(question: ResolvedClaim, facts: Facts, estimate: Estimate) -> tuple[Standing, Standing]:
    """Who is ahead if the claim holds, and the other. Accuracies need two seeds and arms above chance; what is measured
    by seed or round, or counted, brings its own."""
    if question.claim.metric != ACCURACY:
        return Standing(question.a, MIN_SEEDS), Standing(question.b, MIN_SEEDS)
    known, claim = facts.standings[question.claim.group], question.claim
    a, b = (known.of(side.arm, side.precision, claim.task) for side in question.sides)
    return (a, b) if claim.ahead == "a" else (b, a)


def _ahead(question: ResolvedClaim) -> Side:
    """Who is better if the claim holds."""
    a, b = question.sides
    return a if question.claim.ahead == "a" else b


def _named_controls(question: ResolvedClaim, facts: Facts) -> tuple[str, ...] | None:
    """The controls a claim asks for; None: every one of the run, which an accuracy of ECR is never judged without."""
    of_ecr = question.claim.metric == ACCURACY and facts.cast.is_main(_ahead(question).arm)
    return None if of_ecr else question.claim.controls


def _attribution(question: ResolvedClaim, facts: Facts, controls: Sequence[ControlFinding]) -> Attribution | None:
    """None where no control applies: to a cost for which the claim says so, or to an arm other than ECR for which it
    names none."""
    claim, named = question.claim, _named_controls(question, facts)
    is_main = facts.cast.is_main(_ahead(question).arm)
    if not (named or (is_main and not (claim.metric in COSTS and named == ()))):
        return None
    required = [
        name
        for name in REQUIRED_CONTROLS
        if named is None or name in named or (is_main and role_of(name) is Role.ANCHOR_CONTROL)
    ]
    ends = {c.arm: sorted((claim.sign * c.low, claim.sign * c.high)) for c in controls}
    return attribute({arm: (low, high) for arm, (low, high) in ends.items()}, required)


def _controls(question: ResolvedClaim, facts: Facts) -> list[ControlFinding]:
    """The arm ahead minus each control it must beat, in its precision, or the run's first where a control was not run
    in it; one that was run in other settings counts as not run. One that is as good or better by the same number in
    every seed is not beaten, though it has no interval."""
    claim, ahead, named = question.claim, _ahead(question), _named_controls(question, facts)
    if named is None and not facts.cast.is_main(ahead.arm):
        return []
    result = []
    for control in facts.cast.controls_like(ahead.arm, claim.pool_settings):
        if (named is not None and control.name not in named) or control == ahead.arm:
            continue
        for precision in dict.fromkeys((ahead.precision, facts.reference)):
            try:
                if not claim.pool_settings and not _speaks_to(control, ahead.arm, question, facts):
                    break
                estimate = difference(facts, claim, ahead, Side(control, precision)).estimate
                ends = {"difference": estimate.value, "low": estimate.low, "high": estimate.high}
            except NotTestedError as error:
                if error.same is None or claim.sign * error.same > 0:
                    continue
                ends = dict.fromkeys(("difference", "low", "high"), error.same)
            low = min(claim.sign * ends["low"], claim.sign * ends["high"])
            result.append(ControlFinding(arm=control, precision=precision, **ends, beaten=low > 0))
            break
    return result


def _speaks_to(control: Arm, arm: Arm, question: ResolvedClaim, facts: Facts) -> bool:
    """Whether a control was run as the claim requires and as the arm whose gain it may explain."""
    experiments = {one: facts.experiments_of(one) for one in (control, arm)}
    if unmet(question.claim, control, experiments[control]) is not None:
        return False
    return told_apart_by(arm, control, experiments) is None


def _reason(result: ClaimResult, judged: Judged) -> str:
    """Why the verdict is what it is, beyond the numbers."""
    claim, sign, finding = result.claim, _sign(result.claim), result.finding
    assert finding is not None and result.p_holm is not None
    smallest = with_unit(claim, _smallest(claim))
    low, high = sorted((sign * finding.low, sign * finding.high))
    if judged.obstacle:
        return f"Nothing is concluded: {judged.obstacle}."
    if judged.answer == "refuted":
        if sign * finding.difference < sign * _null(claim) and result.p_holm < ALPHA:
            return "The opposite holds." if claim.test == "superiority" else f"It exceeds the margin, {smallest}."
        return f"Any effect is smaller than the smallest of interest, {smallest}."
    if judged.answer == "inconclusive":
        if low > sign * _null(claim) or high < sign * _smallest(claim):
            return "Not significant after correction for the other tests."
        both = "no effect" if claim.test == "superiority" else "less"
        other = f"the smallest effect of interest, {smallest}" if both == "no effect" else f"more than {smallest}"
        return f"The interval holds both {both} and {other}."
    parts = []
    for role, what in ((Role.ANCHOR_CONTROL, "anchors"), (Role.MODEL_CONTROL, "the language model")):
        if held := [c for c in result.controls if c.arm.role is role and not c.beaten]:
            parts.append(f"Not attributable to {what}: {controls_in_words(result, held)}.")
    if result.untested_controls:
        parts.append(f"Attribution is untested for lack of {', '.join(result.untested_controls)}.")
    return " ".join(parts)


def _not_tested(claim: Claim, question: ResolvedClaim | None, reason: str) -> ClaimResult:
    arms = {"a": question.a, "b": question.b} if question else {"a": None, "b": None}
    return ClaimResult(
        claim=claim, **arms, verdict="not tested", sentence=f"Not tested: {reason}.", finding=None, p_holm=None,
        p_smaller_holm=None, controls=(), not_beaten=(), better=(), untested_controls=(), evidence=(),
    )  # fmt: skip
