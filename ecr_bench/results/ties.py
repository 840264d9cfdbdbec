"""Who shares the first place of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecr_bench.results.schema import Contrast
from ecr_bench.statistics.interval import ALPHA
from ecr_bench.statistics.multiple import holm
from ecr_bench.statistics.paired import accuracy, compare
from ecr_bench.statistics.panel import Panel

Apart = Mapping[tuple[frozenset[Any], str], bool]
"""(two arms, task) -> whether the board tells them apart."""


def told_apart(contrasts: Sequence[Contrast], precision: str) -> Apart:
    """What the contrasts at one precision say."""
    mine = (c for c in contrasts if c.precision == c.precision_b == precision)
    return {(frozenset((c.a, c.b)), c.task): c.p_holm < ALPHA for c in mine}


def tied_with_best(panel: Panel, arms: Sequence[Any], precision: str, task: str, apart: Apart) -> dict[Any, bool]:
    """Which arms cannot be told from the best: by the board's own contrast where there is one, else by a test corrected
    over the arms that have none. The best is tied where somebody is tied with it."""
    if not arms:
        return {}
    means = {arm: accuracy(panel, str(arm), precision, task).value for arm in arms}
    best = max(arms, key=lambda arm: means[arm])
    tied = {arm: not apart[pair, task] for arm in arms if (pair := frozenset((best, arm)), task) in apart}
    others = [arm for arm in arms if arm != best and arm not in tied]
    found = [compare(panel, str(best), str(arm), precision, precision, task).p for arm in others]
    tied |= {arm: p >= ALPHA for arm, p in zip(others, holm(found), strict=True)}
    return {**tied, best: any(tied.values())}
