"""The paired comparisons of a board: which arms meet, Holm's correction, and each result in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Contrast, Split
from ecr_bench.results.words import interval, points
from ecr_bench.statistics.decision import Answer, decide
from ecr_bench.statistics.multiple import holm
from ecr_bench.statistics.paired import Comparison, compare
from ecr_bench.statistics.panel import Panel
from ecr_bench.statistics.wider import compare_wider

TASKS = ("coarse", "fine", "all")
"""Means over task families, which every comparison is made on."""
HEADLINE, SAME, SCALE = "headline", "same size", "scale"
LOW, MIXED = "low precision", "low against full precision"
CONTROL, UPPER = "controls", "upper bound"

Wider = dict[str, tuple[float, float]]
"""What an interval generalises to beyond new sentences -> its limits."""


@dataclass(frozen=True)
class Pair:
    family: str
    a: Arm
    b: Arm
    precision_a: str
    precision_b: str

    @property
    def name(self) -> str:
        if self.precision_a == self.precision_b:
            return f"{self.a} - {self.b}"
        return f"{self.a} ({self.precision_a}) - {self.b} ({self.precision_b})"


def pairs(panel: Panel, cast: Cast, precisions: Sequence[str]) -> list[Pair]:
    """All comparisons whose two arms were scored; ``precisions``: the reference first."""
    wanted = [pair for precision in precisions for pair in _at(cast, precision, precisions[0])]
    wanted += [
        Pair(MIXED, main, plain, precision, precisions[0])
        for small, large in cast.pairs
        for precision in precisions[1:]
        if (main := cast.first(Role.MAIN, small)) and (plain := cast.first(Role.PLAIN, large))
    ]
    return [p for p in wanted if panel.has(str(p.a), p.precision_a) and panel.has(str(p.b), p.precision_b)]


def _at(cast: Cast, precision: str, reference: str) -> Iterator[Pair]:
    both = precision, precision
    for small, large in cast.pairs:
        main, plain, larger = (
            cast.first(role, size) for role, size in ((Role.MAIN, small), (Role.PLAIN, small), (Role.PLAIN, large))
        )
        if main and larger:
            yield Pair(HEADLINE if precision == reference else LOW, main, larger, *both)
        if plain and larger:
            yield Pair(SCALE, larger, plain, *both)
    for size in cast.sizes:
        if main := cast.first(Role.MAIN, size):
            yield from (Pair(SAME, main, plain, *both) for plain in cast.play(Role.PLAIN, size))
            yield from (Pair(CONTROL, main, control, *both) for control in cast.controls(size))
            yield from (Pair(UPPER, main, bound, *both) for bound in cast.play(Role.UPPER_BOUND, size))


def build_contrasts(panel: Panel, split: Split, cast: Cast, precisions: Sequence[str]) -> list[Contrast]:
    """Every pair on coarse, fine and all (where present), with p-values corrected over each family of tests."""
    tasks = [task for task in TASKS if task in panel.tasks]
    found = [
        (pair, task, compare(panel, str(pair.a), str(pair.b), pair.precision_a, pair.precision_b, task))
        for pair in pairs(panel, cast, precisions)
        for task in tasks
    ]
    families: dict[tuple[str, str], list[int]] = {}
    for i, (pair, task, _) in enumerate(found):
        families.setdefault(_tested_together(pair, task, i), []).append(i)
    adjusted: dict[int, tuple[float, float]] = {}
    for members in families.values():
        for i, p_holm in zip(members, holm([found[i][2].p for i in members]), strict=True):
            adjusted[i] = (p_holm, found[i][2].detectable(len(members)))
    return [
        _contrast(*entry, split, *adjusted[i], _wider(panel, entry[0], entry[1])) for i, entry in enumerate(found)
    ]


def _wider(panel: Panel, pair: Pair, task: str) -> Wider:
    rows_a, rows_b = panel.rows(str(pair.a), pair.precision_a), panel.rows(str(pair.b), pair.precision_b)
    return {str(found.covers): (found.low, found.high) for found in compare_wider(panel, rows_a, rows_b, task)}


def _tested_together(pair: Pair, task: str, index: int) -> tuple[str, str]:
    """Key of the Holm family: lower precisions are one question, controls stand alone (Contrast.p_holm)."""
    if pair.family == CONTROL:
        return CONTROL, str(index)
    return pair.family, "" if pair.family in (LOW, MIXED) else pair.precision_a


def _contrast(
    pair: Pair, task: str, found: Comparison, split: Split, p_holm: float, mdd: float, wider: Wider
) -> Contrast:
    answer = decide(found.value, p_holm)
    a, b = str(pair.a), str(pair.b)
    if pair.precision_a != pair.precision_b:
        a, b = f"{a} in {pair.precision_a}", f"{b} in {pair.precision_b}"
    ci = (found.low, found.high)
    return Contrast(
        name=pair.name,
        a=pair.a,
        b=pair.b,
        precision=pair.precision_a,
        precision_b=pair.precision_b,
        split=split,
        task=task,
        family=pair.family,
        difference=found.value,
        ci=ci,
        df=found.df,
        p=found.p,
        p_holm=p_holm,
        mcnemar_p=found.mcnemar_p,
        mcnemar_by_seed=found.mcnemar_by_seed,
        mdd=mdd,
        wider=wider,
        n_items=found.n_items,
        n_seeds=found.n_seeds,
        n_clusters=found.n_clusters,
        covers=found.covers,
        verdict=answer,
        sentence=in_words(a, b, answer, found.value, ci, wider, mdd, p_holm),
    )


def in_words(
    a: str, b: str, answer: Answer, difference: float, ci: tuple[float, float], wider: Wider, mdd: float, p_holm: float
) -> str:
    """One plain sentence with estimate, intervals and minimum detectable difference."""
    size = f"{abs(100 * difference):.1f} points"
    beyond = ", ".join(f"for {covers} {interval(limits)}" for covers, limits in wider.items())
    limits = f"95 % interval {interval(ci)}" + (f" ({beyond})" if beyond else "")
    detectable = f"this run can detect differences from {100 * mdd:.1f} points"
    side = "above" if difference > 0 else "below"
    if answer == "inconclusive" and ci[0] * ci[1] > 0:
        doubt = f"not significant after correction for the other tests (p = {p_holm:.2f})"
        return f"{a} is {size} {side} {b}, but {doubt}: {limits}; {detectable}."
    if answer == "inconclusive":
        return f"{a} and {b} cannot be told apart: {points(difference)} points, {limits}; {detectable}."
    return f"{a} is {size} {side} {b}: {limits}; {detectable}."
