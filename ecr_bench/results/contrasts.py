"""The paired comparisons of a board: which arms meet, Holm's correction, and what the controls leave of each result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.results.controls import ControlTests
from ecr_bench.results.judgement import SMALLEST_EFFECT, Standing, Thresholds, judge_difference, word_of
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import ABOVE_FLOOR, Contrast, Group
from ecr_bench.results.sentences import contrast_in_words
from ecr_bench.results.standings import Standings
from ecr_bench.statistics.multiple import holm
from ecr_bench.statistics.paired import Comparison, compare
from ecr_bench.statistics.panel import Panel
from ecr_bench.statistics.wider import compare_wider

TASKS = ("coarse", "fine", "all")
"""Means over single tasks, which every comparison is made on."""

HEADLINE, SAME, SCALE = "headline", "same size", "scale"
LOW, MIXED = "low precision", "low against full precision"
RIVAL = "rivals"
CONTROL, UPPER = "controls", "upper bound"
GAINS = (HEADLINE, SAME, RIVAL, LOW, MIXED)
"""Families whose first arm is the main one, so that its controls say what a gain is due to."""
Wider = dict[str, tuple[float, float]]
"""What an interval generalises to beyond new sentences -> its limits."""


def ordered_means(present: Iterable[str]) -> list[str]:
    """Those of ``TASKS`` that are there, then the same without the tasks at the floor."""
    found = set(present)
    return [task for end in ("", ABOVE_FLOOR) for task in (name + end for name in TASKS) if task in found]


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


AtPrecision = tuple[Arm, str]
"""An arm at a precision."""


def meeting(contrasts: Iterable[Contrast], a: AtPrecision, b: AtPrecision, group: str, task: str) -> Contrast | None:
    """The contrast of two arms, whichever way round; None where they do not meet."""
    wanted = {(a, b), (b, a)}
    for c in contrasts:
        if (c.group, c.task) == (group, task) and ((c.a, c.precision), (c.b, c.precision_b)) in wanted:
            return c
    return None


@dataclass(frozen=True)
class Tested:
    """A pair on one task with its p-values, corrected over the tests of its question."""

    pair: Pair
    task: str
    found: Comparison
    p: float
    p_smaller: float
    """Of a difference equal to the smallest that matters; 1 where the question has no such difference."""
    tests: int
    """Tests of the question."""


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
            yield from (Pair(RIVAL, main, rival, *both) for rival in cast.rivals(main))
            yield from (Pair(CONTROL, main, control, *both) for control in cast.controls(size))
            yield from (Pair(UPPER, main, bound, *both) for bound in cast.play(Role.UPPER_BOUND, size))


def build_contrasts(panel: Panel, group: Group, cast: Cast, precisions: Sequence[str]) -> list[Contrast]:
    """Every pair on coarse, fine and all (where present, and without tasks at the floor where there are any), with
    p-values corrected over each family of tests."""
    means = ordered_means(panel.tasks)
    controls, standings = ControlTests(panel, cast, precisions[0]), Standings(panel)
    found = [
        (pair, task, compare(panel, str(pair.a), str(pair.b), pair.precision_a, pair.precision_b, task))
        for pair in pairs(panel, cast, precisions)
        for task in means
    ]
    return [_contrast(tested, panel, group, controls, standings) for tested in _corrected(found)]


def _corrected(found: Sequence[tuple[Pair, str, Comparison]]) -> list[Tested]:
    families: dict[tuple[str, str, bool], list[int]] = {}
    for i, (pair, task, _) in enumerate(found):
        families.setdefault(_tested_together(pair, task, i), []).append(i)
    result: dict[int, Tested] = {}
    for members in families.values():
        against = holm([found[i][2].p for i in members])
        smaller = holm([found[i][2].p_against(SMALLEST_EFFECT) for i in members])
        for i, p, p_smaller in zip(members, against, smaller, strict=True):
            is_control = found[i][0].family == CONTROL
            result[i] = Tested(*found[i], p, 1.0 if is_control else p_smaller, len(members))
    return [result[i] for i in range(len(found))]


def _tested_together(pair: Pair, task: str, index: int) -> tuple[str, str, bool]:
    """Key of the Holm family: lower precisions are one question, controls stand alone (Contrast.p_holm), and means
    without the tasks at the floor, which the data chose, do not make the others harder."""
    if pair.family == CONTROL:
        return CONTROL, str(index), False
    return pair.family, "" if pair.family in (LOW, MIXED) else pair.precision_a, task.endswith(ABOVE_FLOOR)


def _contrast(tested: Tested, panel: Panel, group: Group, controls: ControlTests, standings: Standings) -> Contrast:
    pair, task, found = tested.pair, tested.task, tested.found
    a = standings.of(pair.a, pair.precision_a, task)
    b = standings.of(pair.b, pair.precision_b, task)
    if pair.family == CONTROL:  # a bar to clear: one seed of it is enough, and there is no smallest effect
        b = Standing(b.arm, max(a.seeds, b.seeds), b.reaches_chance)
    thresholds = Thresholds(smallest=float("-inf")) if pair.family == CONTROL else Thresholds()
    judged = judge_difference(found.value, tested.p, tested.p_smaller, thresholds, a, b)
    shown = controls.attribution(pair.a, pair.precision_a, task) if pair.family in GAINS else None
    rows_a, rows_b = panel.rows(str(pair.a), pair.precision_a), panel.rows(str(pair.b), pair.precision_b)
    wider = {str(w.covers): (w.low, w.high) for w in compare_wider(panel, rows_a, rows_b, task)}
    contrast = Contrast(
        name=pair.name,
        a=pair.a,
        b=pair.b,
        precision=pair.precision_a,
        precision_b=pair.precision_b,
        group=group,
        task=task,
        family=pair.family,
        difference=found.value,
        ci=(found.low, found.high),
        wider=wider,
        df=found.df,
        p=found.p,
        p_holm=tested.p,
        p_smaller_holm=None if pair.family == CONTROL else tested.p_smaller,
        mcnemar_p=found.mcnemar_p,
        mcnemar_by_seed=found.mcnemar_by_seed,
        mdd=found.detectable(tested.tests),
        n_items=found.n_items,
        n_seeds=found.n_seeds,
        n_clusters=found.n_clusters,
        covers=found.covers,
        verdict=word_of(judged.answer, shown),
        attribution=shown,
        sentence="",
    )
    return contrast.model_copy(update={"sentence": contrast_in_words(contrast, judged)})
