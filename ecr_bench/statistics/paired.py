"""Intervals and paired differences that cover items (clusters) and seeds.

Why not resample seeds: with S = 2 or 3 a bootstrap over seeds has expected variance (S-1)/S of the truth (half of
it for two seeds) and its percentiles ignore that the variance itself is hardly known. Instead the variance is put
together from its parts, as for a two-way layout of clusters x seeds with both effects random (Searle, Casella &
McCulloch 1992, *Variance Components*, ch. 4; Owen 2007, Ann. Appl. Stat. 1, on crossed resampling):

    var(D) = V_items + kappa s2 (1/S_a + 1/S_b)

V_items is the cluster-bootstrap variance of the difference of seed means. s2 is the between-seed variance pooled
over all arms with two or more seeds at that precision, less the part that items alone explain (the bootstrap
variance of the seed deviations, which V_items holds already), never below 0. Pooling assumes that arms scatter
alike; it is what gives two seeds per arm enough degrees of freedom to say anything, and lets an arm with one seed
carry a seed variance at all. The interval is D +- t sqrt(var), Satterthwaite degrees of freedom. Where no arm has
two seeds, it covers items only and says so (``covers``).

kappa is 1 for arms that were trained apart. Units that answer alike seed by seed (one model in two precisions, ECR
with no token against plain fine-tuning) share their seed effect, so it cancels in the difference as their answers do.
What does not cancel shows in the items: apart, V_items is at least the sum E of what items explain of each side's
seed variance. kappa = min(1, 2 V_items / E), so it departs from 1 only where V_items is below half of E, which
separate training does not reach, and is 0 where all answers agree; there, the seed part enters the degrees of freedom
with at most the whole variance, for it cannot be more uncertain than itself.

Checked by simulation (tests/test_statistics.py has the world; 9,000 runs per setting, 3 arms, seed effect of none /
3 / 9 points standard deviation): A/A false alarms at 5 % with two seeds 1.8 / 3.4 / 5.1 %, with three 2.1 / 4.1 /
5.0 %; coverage 95.1 to 98.6 %, above 97 % only where seeds have no effect at all. With 90 or 99 % of a unit's own
variance shared by all arms of a seed (2,000 runs per setting): false alarms 1.3 to 3.7 %, coverage 96.4 to 99.3 %.
Two tempting refinements each let false alarms rise to 5.7 to 6 %: dropping the seed part from the degrees of freedom
when s2 is 0, and bounding them below by those of s2 (where kappa is below 1 that bound is needed: the variance of
two arms that answer alike is far below s2, and the degrees of freedom would collapse).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from ecr_bench.statistics.multiple import holm, mcnemar
from ecr_bench.statistics.panel import Panel

ALPHA = 0.05
POWER = 0.80


@dataclass(frozen=True)
class Estimate:
    """A mean or difference on the 0..1 accuracy scale with its 95 % interval. All numbers are finite."""

    value: float
    low: float
    high: float
    se: float
    df: float
    p: float
    """Two-sided p-value of value = 0."""
    mdd: float
    """Minimum detectable difference: found with 80 % power at the 5 % level (2.8 standard errors when df is large)."""
    n_seeds: int
    n_items: int
    n_clusters: int
    covers: str
    """``items and seeds``, or ``items`` where no arm has two seeds."""


@dataclass(frozen=True)
class Comparison(Estimate):
    """Arm a minus arm b."""

    mcnemar_p: float
    mcnemar_by_seed: tuple[float, ...]


class SeedVariance(NamedTuple):
    """Between-seed variance of a unit's mean, pooled over the arms of a precision; all 0 where no arm has two seeds."""

    raw: float
    """As observed."""
    items: float
    """The part that items alone explain."""
    df: int

    @property
    def net(self) -> float:
        """What seeds add to the items."""
        return max(0.0, self.raw - self.items)


def seed_variance(panel: Panel, precision: str, task: str) -> SeedVariance:
    """Pool the between-seed variance over all arms with two or more seeds; worked out once per panel."""
    key = (precision, task)
    if key not in panel.memo:
        panel.memo[key] = _seed_variance(panel, precision, task)
    return SeedVariance(*panel.memo[key])


def _seed_variance(panel: Panel, precision: str, task: str) -> SeedVariance:
    raw = items = 0.0
    df = 0
    for arm in sorted({unit.arm for unit in panel.units if unit.precision == precision}):
        rows = panel.rows(arm, precision)
        if len(rows) < 2:
            continue
        means = np.array([panel.mean(row, task) for row in rows])
        drawn = np.stack([panel.replicates(row, task) for row in rows])
        raw += float(((means - means.mean()) ** 2).sum())
        items += float((drawn - drawn.mean(axis=0)).var(axis=1).sum())
        df += len(rows) - 1
    return SeedVariance(raw / df, items / df, df) if df else SeedVariance(0.0, 0.0, 0)


def _never_seen(n_clusters: int) -> float:
    """Exact 95 % bound on the share of clusters that behave otherwise when none of n did (Clopper-Pearson)."""
    return 1.0 - (ALPHA / 2) ** (1.0 / n_clusters)


def _estimate(
    panel: Panel, value: float, replicates: np.ndarray, task: str, seeds: list[tuple[str, int]], lowest: float
) -> Estimate:
    """Put an interval around ``value``; ``seeds`` holds (precision, number of seeds) of each side."""
    n_clusters, n_items = panel.n_clusters(task), len(panel.item_rows(task))
    n_seeds = min(count for _, count in seeds)
    parts = [(seed_variance(panel, precision, task), count) for precision, count in seeds]
    covers = "items and seeds" if all(part.df for part, _ in parts) else "items"
    if n_clusters < 2:
        return Estimate(value, lowest, 1.0, 1.0, 1.0, 1.0, 1.0, n_seeds, n_items, n_clusters, covers)
    items = float(replicates.var())
    explained = sum(part.items / count for part, count in parts)
    kept = min(1.0, 2 * items / explained) if explained else 1.0  # kappa
    if items < 1e-12:  # every cluster agrees: the bootstrap sees no variance, the population may have some
        items = (_never_seen(n_clusters) / student.ppf(1 - ALPHA / 2, n_clusters - 1)) ** 2
    variance = items + kept * sum(part.net / count for part, count in parts)
    raw = sum(part.raw / count for part, count in parts)
    if kept < 1:
        raw = min(kept * raw, variance)
    df_seeds = max(1, min(part.df for part, _ in parts))
    df = max(1.0, variance**2 / (raw**2 / df_seeds + items**2 / (n_clusters - 1)))
    se = float(np.sqrt(variance))
    reach = float(student.ppf(1 - ALPHA / 2, df))
    mdd = min(1.0, (reach + float(student.ppf(POWER, df))) * se)
    p = float(2 * student.sf(abs(value) / se, df))
    low, high = max(lowest, value - reach * se), min(1.0, value + reach * se)
    return Estimate(value, low, high, se, float(df), p, mdd, n_seeds, n_items, n_clusters, covers)


def accuracy(panel: Panel, arm: str, precision: str, task: str) -> Estimate:
    """Macro accuracy of an arm, mean over its seeds, with its interval."""
    rows = panel.rows(arm, precision)
    value = float(np.mean([panel.mean(row, task) for row in rows]))
    drawn = np.mean([panel.replicates(row, task) for row in rows], axis=0)
    return _estimate(panel, value, drawn, task, [(precision, len(rows))], 0.0)


def compare(panel: Panel, a: str, b: str, precision_a: str, precision_b: str, task: str) -> Comparison:
    """Accuracy of arm ``a`` minus that of arm ``b`` on the same items, mean over each arm's seeds.

    McNemar pairs seeds of the same number, or in order where the arms share none; it looks at raw items.
    """
    return compare_units(panel, panel.rows(a, precision_a), panel.rows(b, precision_b), task)


def compare_units(panel: Panel, rows_a: list[int], rows_b: list[int], task: str) -> Comparison:
    """The same for two groups of units, each of one precision, given as rows of the panel."""
    precision_a, precision_b = (panel.units[rows[0]].precision for rows in (rows_a, rows_b))
    estimate = _difference(panel, rows_a, rows_b, precision_a, precision_b, task)
    items = panel.item_rows(task)
    pairs = _seed_pairs(panel, rows_a, rows_b)
    by_seed = tuple(mcnemar(panel.correct[i, items], panel.correct[j, items]) for i, j in pairs)
    left, right = zip(*pairs, strict=True)
    pooled = mcnemar(panel.correct[np.ix_(left, items)], panel.correct[np.ix_(right, items)])
    return Comparison(**vars(estimate), mcnemar_p=pooled, mcnemar_by_seed=by_seed)


def _difference(
    panel: Panel, rows_a: list[int], rows_b: list[int], precision_a: str, precision_b: str, task: str
) -> Estimate:
    value = float(np.mean([panel.mean(r, task) for r in rows_a]) - np.mean([panel.mean(r, task) for r in rows_b]))
    drawn_a = np.mean([panel.replicates(row, task) for row in rows_a], axis=0)
    drawn_b = np.mean([panel.replicates(row, task) for row in rows_b], axis=0)
    seeds = [(precision_a, len(rows_a)), (precision_b, len(rows_b))]
    return _estimate(panel, value, drawn_a - drawn_b, task, seeds, -1.0)


def _seed_pairs(panel: Panel, rows_a: list[int], rows_b: list[int]) -> list[tuple[int, int]]:
    by_seed = {panel.units[row].seed: row for row in rows_b}
    same = [(row, by_seed[panel.units[row].seed]) for row in rows_a if panel.units[row].seed in by_seed]
    return same or list(zip(rows_a, rows_b, strict=False))


def tied_with_leader(panel: Panel, arms: list[str], precision: str, task: str) -> dict[str, bool]:
    """Which of ``arms`` cannot be told from the best of them (paired difference, Holm over the comparisons)."""
    if not arms:
        return {}
    rows = {arm: panel.rows(arm, precision) for arm in arms}
    means = {arm: np.mean([panel.mean(row, task) for row in rows[arm]]) for arm in arms}
    leader = max(arms, key=lambda arm: means[arm])
    others = [arm for arm in arms if arm != leader]
    adjusted = holm([_difference(panel, rows[leader], rows[arm], precision, precision, task).p for arm in others])
    return {leader: True} | {arm: p >= ALPHA for arm, p in zip(others, adjusted, strict=True)}
