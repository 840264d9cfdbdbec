"""Accuracies and paired differences with intervals over items (clusters) and seeds; docs/statistics.md has it in full.

Arms are linear combinations of respondents: an arm's accuracy is the mean of its seeds, a difference is one mean minus
the other. The variance of such a value is put together from its parts, as for a two-way layout of clusters x seeds with
both effects random (Searle, Casella & McCulloch 1992, *Variance Components*, ch. 4):

    var = V_items + kappa (net_a / S_a + net_b / S_b)

V_items is the variance over clusters drawn anew of the value as a whole, so what both arms share cancels. net_a is
the variance of arm a's own means between its seeds, less the part that items alone explain (which V_items holds),
never below 0. Each arm's variance is its own: arms need not scatter alike. The interval reaches as far as the t
intervals of items and of seeds together (``interval.Estimate``).

kappa is 1 for arms that answer apart. Where respondents of one seed deviate alike item by item (one model in two
precisions, ECR with no token against plain fine-tuning), their seed effects cancel in the difference as well: with rho
the share of the items' part that cancels, kappa = min(1, 2 (1 - rho)), which is 0 for equal answers and falls from 1
only where more than half cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ecr_bench.statistics.interval import Covers, Estimate, VarianceComponent, estimate_from, variance_of_few
from ecr_bench.statistics.multiple import mcnemar
from ecr_bench.statistics.panel import Panel


@dataclass(frozen=True)
class Comparison(Estimate):
    """Arm a minus arm b."""

    mcnemar_p: float = 1.0
    mcnemar_by_seed: tuple[float, ...] = ()


class Term(NamedTuple):
    """One arm of a linear combination: its factor, and its respondents as rows of the panel."""

    factor: float
    rows: Sequence[int]


class SeedVariance(NamedTuple):
    """Between-seed variance of one arm's mean accuracy at one precision; of two seeds or more."""

    raw: float
    """As observed."""
    items: float
    """The part that items alone explain."""
    df: int

    @property
    def net(self) -> float:
        """What seeds add to the items."""
        return max(0.0, self.raw - self.items)


def seed_variance(panel: Panel, rows: Sequence[int], task: str) -> SeedVariance | None:
    """Of the arm whose respondents are ``rows``; None for a single seed."""
    n = len(rows)
    if n < 2:
        return None
    means = np.array([panel.mean(row, task) for row in rows])
    block = panel.covariance(task)[np.ix_(rows, rows)]
    alike = (block.sum() - np.trace(block)) / (n * (n - 1))
    return SeedVariance(float(means.var(ddof=1)), float(np.trace(block) / n - alike), n - 1)


def value_of(panel: Panel, terms: Sequence[Term], task: str) -> float:
    return float(sum(term.factor * np.mean([panel.mean(row, task) for row in term.rows]) for term in terms))


def weights_of(panel: Panel, terms: Sequence[Term]) -> np.ndarray:
    """(R,) factor of each respondent of the panel in the combination."""
    weights = np.zeros(len(panel.respondents))
    for term in terms:
        weights[list(term.rows)] += term.factor / len(term.rows)
    return weights


def parts_of(
    panel: Panel, terms: Sequence[Term], task: str, kappa: float = 1.0
) -> tuple[list[VarianceComponent], Covers]:
    """What the variance of a linear combination of arms consists of, and what that covers.

    An arm with a single seed is taken to scatter as the other arms of the combination do. That is an assumption, so
    the result covers items only; where no arm has two seeds there is no seed part at all.
    """
    items = _items_part(panel, weights_of(panel, terms), task)
    of_terms = [seed_variance(panel, term.rows, task) for term in terms]
    known = [found for found in of_terms if found]
    shares = [term.factor**2 / len(term.rows) for term in terms]
    borrowed = sum(share for share, found in zip(shares, of_terms, strict=True) if not found)
    of_seeds = [
        (kappa * (share + borrowed / len(known)), found) for share, found in zip(shares, of_terms, strict=True) if found
    ]
    covers = Covers.ITEMS_AND_SEEDS if len(known) == len(terms) else Covers.ITEMS
    return [items, *_seed_part(of_seeds)], covers


def _items_part(panel: Panel, weights: np.ndarray, task: str) -> VarianceComponent:
    """Over clusters drawn anew; those that make up most of it are counted by the ratio of squares to fourth powers."""
    squares = (weights @ panel.influence(task)) ** 2
    total, n_clusters = float(squares.sum()), panel.n_clusters(task)
    rounding = 1e-12 / n_clusters**4
    contributors = total**2 / (float((squares**2).sum()) + rounding)
    return VarianceComponent(variance_of_few(total, contributors, n_clusters), n_clusters - 1)


def _seed_part(shares: Sequence[tuple[float, SeedVariance]]) -> list[VarianceComponent]:
    """The seeds of all arms, by their shares in the variance: one part for those with as many seeds.

    Its degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2): from those of one arm, where it scatters
    most, to the sum of all. Over arms of two and of five seeds they would be too many: two seeds that happen to agree
    hide that theirs decides.
    """
    parts = []
    for df in sorted({found.df for _, found in shares}):
        same = [(share, found) for share, found in shares if found.df == df]
        raw = [share * found.raw for share, found in same]
        if sum(raw):
            pooled = df * sum(raw) ** 2 / sum(value**2 for value in raw)
            parts.append(VarianceComponent(sum(share * found.net for share, found in same), pooled))
    return parts


def kappa_of(panel: Panel, a: Sequence[int], b: Sequence[int], task: str) -> float:
    """Share of the seed effects that is left in the difference of two arms."""
    seed = [one.seed for one in panel.respondents]
    same = np.equal.outer([seed[row] for row in a], [seed[row] for row in b])
    known = [found.items for rows in (a, b) if (found := seed_variance(panel, rows, task))]
    if not known or not same.any() or same.all():
        return 1.0
    across = panel.covariance(task)[np.ix_(a, b)]
    cancels = 2 * float((across[same] - across[~same].mean()).sum()) / (len(a) * len(b))
    apart = float(np.mean(known)) * (1 / len(a) + 1 / len(b))
    return float(np.clip(2 * (1 - cancels / apart), 0.0, 1.0)) if apart > 0 else 1.0


def estimate(panel: Panel, terms: Sequence[Term], task: str, *, lowest: float, kappa: float = 1.0) -> Estimate:
    """A linear combination of arms with its interval, at most 1."""
    n_seeds = min(len(term.rows) for term in terms)
    n_clusters, n_items = panel.n_clusters(task), len(panel.item_rows(task))
    value = value_of(panel, terms, task)
    counts = {"n_seeds": n_seeds, "n_items": n_items, "n_clusters": n_clusters}
    if n_clusters < 2:  # one draw says nothing about others
        return Estimate(value, lowest, 1.0, Covers.ITEMS, (VarianceComponent(math.inf, 1.0),), **counts, largest=1.0)
    parts, covers = parts_of(panel, terms, task, kappa)
    return estimate_from(value, parts, covers, lowest=lowest, largest=1.0, **counts)


def accuracy(panel: Panel, arm: str, precision: str, task: str) -> Estimate:
    """Macro accuracy of an arm, mean over its seeds, with its interval."""
    return estimate(panel, [Term(1.0, panel.rows(arm, precision))], task, lowest=0.0)


def compare(panel: Panel, a: str, b: str, precision_a: str, precision_b: str, task: str) -> Comparison:
    """Accuracy of arm ``a`` minus that of arm ``b`` on the same items, mean over each arm's seeds.

    McNemar pairs seeds of the same number, or in order where the arms share none; it looks at raw items.
    """
    return compare_respondents(panel, panel.rows(a, precision_a), panel.rows(b, precision_b), task)


def compare_respondents(panel: Panel, rows_a: list[int], rows_b: list[int], task: str) -> Comparison:
    """The same for two groups of respondents, each of one precision, given as rows of the panel."""
    items = panel.item_rows(task)
    pairs = _seed_pairs(panel, rows_a, rows_b)
    by_seed = tuple(mcnemar(panel.correct[i, items], panel.correct[j, items]) for i, j in pairs)
    left, right = zip(*pairs, strict=True)
    pooled = mcnemar(panel.correct[np.ix_(left, items)], panel.correct[np.ix_(right, items)])
    found = _difference(panel, rows_a, rows_b, task)
    return Comparison(**vars(found), mcnemar_p=pooled, mcnemar_by_seed=by_seed)


def difference_of(rows_a: Sequence[int], rows_b: Sequence[int]) -> list[Term]:
    return [Term(1.0, rows_a), Term(-1.0, rows_b)]


def _difference(panel: Panel, rows_a: Sequence[int], rows_b: Sequence[int], task: str) -> Estimate:
    kappa = kappa_of(panel, rows_a, rows_b, task)
    return estimate(panel, difference_of(rows_a, rows_b), task, lowest=-1.0, kappa=kappa)


def _seed_pairs(panel: Panel, rows_a: list[int], rows_b: list[int]) -> list[tuple[int, int]]:
    by_seed = {panel.respondents[row].seed: row for row in rows_b}
    seeds_a = [panel.respondents[row].seed for row in rows_a]
    same = [(row, by_seed[seed]) for row, seed in zip(rows_a, seeds_a, strict=True) if seed in by_seed]
    return same or list(zip(rows_a, rows_b, strict=False))
