"""From a comparison to one word and its reason. Board, claims, page and terminal all say this word."""

from __future__ import annotations

from dataclasses import dataclass

from ecr_bench.arm import Arm
from ecr_bench.results.schema import Attribution, Word
from ecr_bench.statistics.by_seed import MIN_SEEDS
from ecr_bench.statistics.decision import Answer, decide

SMALLEST_EFFECT = 0.01
"""Smallest difference of accuracies that matters, where nothing else is said: one point."""


@dataclass(frozen=True)
class Standing:
    """What an arm must have for a verdict to rest on it."""

    arm: Arm
    seeds: int
    reaches_chance: bool = False
    """The interval of its accuracy holds chance: whatever it is compared with, it beats nobody."""


@dataclass(frozen=True)
class Thresholds:
    """Differences in the direction in which more is better."""

    null: float = 0.0
    """What must be exceeded."""
    smallest: float = SMALLEST_EFFECT
    """What refutes when the difference is significantly below it."""


@dataclass(frozen=True)
class Judged:
    answer: Answer
    obstacle: str = ""
    """Why nothing can be concluded, whatever the p; empty where nothing stands in the way."""


def judge_difference(
    effect: float, p: float, p_smaller: float, thresholds: Thresholds, a: Standing, b: Standing
) -> Judged:
    """Verdict on 'a exceeds b', from corrected p-values of ``effect`` = null and of ``effect`` = smallest."""
    answer = decide(effect, p, null=thresholds.null, smallest=thresholds.smallest, p_smaller=p_smaller)
    if answer == "inconclusive":
        return Judged(answer)
    reversed_ = answer == "refuted" and effect < thresholds.null
    reason = _obstacle(answer == "supported", reversed_, a, b)
    return Judged("inconclusive", reason) if reason else Judged(answer)


def _obstacle(a_wins: bool, b_wins: bool, a: Standing, b: Standing) -> str:
    for side in (a, b):
        if side.seeds < MIN_SEEDS:
            return f"{side.arm} has one seed, which supports nothing"
    if a.reaches_chance and b.reaches_chance:
        return f"neither {a.arm} nor {b.arm} is shown to be above chance"
    for side, wins in ((a, a_wins), (b, b_wins)):
        if wins and side.reaches_chance:
            return f"{side.arm} is not shown to be above chance"
    return ""


def word_of(answer: Answer, attribution: Attribution | None) -> Word:
    """The answer, qualified by what the controls show (None: no control applies)."""
    if answer != "supported" or attribution is None:
        return answer
    if attribution.anchors:
        return "not attributable to anchors"
    if attribution.model:
        return "not attributable to the language model"
    return "supported, not attributed" if attribution.untested else "supported"
