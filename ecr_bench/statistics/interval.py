"""The one interval: what stands on both sides of every estimate, how it is made, and what it generalises to.

To make intervals in another way, change this file. Which parts the variance of an accuracy has is ``paired``'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scipy.optimize import brentq
from scipy.special import nctdtrinc, stdtrit
from scipy.stats import beta

ALPHA = 0.05
"""The level of every test; intervals hold 1 - ALPHA."""
POWER = 0.80


class Covers(StrEnum):
    """What an interval generalises to: what could have been drawn otherwise."""

    ITEMS = "items"
    """New sentences in the same languages, asked of the same trained models."""
    ITEMS_AND_SEEDS = "items and seeds"
    """New sentences, and models trained anew."""
    LANGUAGES = "new languages"
    """Beside that, languages that were not asked."""
    TOPICS = "new topics"
    """Beside that, topics (intents, say) that were not asked about."""
    SEEDS = "seeds"
    ROUNDS = "rounds"
    """Repetitions of a measurement on one machine."""
    RUNS = "runs"
    NOTHING = "nothing"
    """A count that is the same in every run."""


@dataclass(frozen=True)
class VarianceComponent:
    """What one source of chance (items, seeds, languages) contributes to the variance of an estimate."""

    variance: float
    df: float
    """Degrees of freedom with which it is known."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % limits. All numbers are finite."""

    value: float
    low: float
    high: float
    covers: Covers


@dataclass(frozen=True)
class Estimate(Interval):
    """A mean or a difference: accuracies on the 0..1 scale, others in their own unit.

    An interval at level alpha reaches sqrt(sum of (t_k s_k)^2) to each side, with s_k^2 the variance of source k and
    t_k the 1 - alpha / 2 quantile of Student's t with its degrees of freedom (Howe 1974, JASA 69; Zou & Donner 2008,
    Stat. Med. 27). With one source it is the t interval.
    """

    parts: tuple[VarianceComponent, ...] = ()
    """Empty for a number without error."""
    n_seeds: int = 0
    """Seeds of the arm with fewer."""
    n_items: int = 0
    n_clusters: int = 0
    largest: float = math.inf
    """The largest value there could be."""

    @property
    def se(self) -> float:
        """Standard error."""
        return math.sqrt(sum(part.variance for part in self.parts))

    @property
    def df(self) -> float:
        """Degrees of freedom of the t interval that reaches as far; small where few seeds decide."""
        known = [part.df for part in self.parts]
        if not known or min(known) == max(known):
            return float(min(known, default=1.0))
        wanted = reach(self.parts, ALPHA) / self.se

        def over(df: float) -> float:
            return float(stdtrit(df, 1 - ALPHA / 2)) - wanted

        return float(brentq(over, min(known) * (1 - 1e-9), max(known) * (1 + 1e-9)))

    @property
    def p(self) -> float:
        """Two-sided p-value of value = 0."""
        return self.p_against(0.0)

    def p_against(self, threshold: float) -> float:
        """Two-sided p-value of value = ``threshold``: the level at which an interval just reaches it."""
        distance = abs(self.value - threshold)
        if not distance or math.isinf(self.se):
            return 1.0
        if not self.se:
            return 0.0
        if reach(self.parts, math.exp(SMALLEST)) < distance:
            return 0.0
        return math.exp(brentq(lambda log: reach(self.parts, math.exp(log)) - distance, SMALLEST, 0.0, xtol=1e-10))

    @property
    def mdd(self) -> float:
        """Minimum detectable difference of one test alone."""
        return self.detectable(1)

    def detectable(self, tests: int) -> float:
        """The difference found with 80 % power by Holm's procedure over ``tests`` tests if the others find nothing.

        Such a test must pass ALPHA / tests, Holm's first step; where others are found too, less is enough. Each source
        counts with the noncentrality that gives its own t test this power.
        """
        squares = 0.0
        for part in self.parts:
            needed = stdtrit(part.df, 1 - ALPHA / tests / 2)
            squares += part.variance * float(nctdtrinc(part.df, 1 - POWER, needed)) ** 2
        return min(self.largest, math.sqrt(squares))


@dataclass(frozen=True)
class Ratio(Estimate):
    """A ratio less 1, taken on the scale of logarithms, where the parts are: b to a is then the inverse of a to b."""

    @property
    def logarithm(self) -> Estimate:
        return estimate_from(math.log1p(self.value), self.parts, self.covers)

    def p_against(self, threshold: float) -> float:
        return replace(self.logarithm, value=self.logarithm.value - math.log1p(threshold)).p if threshold > -1 else 0.0

    def detectable(self, tests: int) -> float:
        return math.expm1(min(LARGEST, super().detectable(tests)))


SMALLEST = -230.0
"""Logarithm of the smallest p-value told from 0."""
LARGEST = 230.0
"""Logarithm of the largest ratio."""


def reach(parts: Sequence[VarianceComponent], alpha: float) -> float:
    """Half width of the interval at level ``alpha``."""
    return math.sqrt(sum(part.variance * float(stdtrit(part.df, alpha / 2)) ** 2 for part in parts))


def limits(value: float, parts: Sequence[VarianceComponent], lowest: float, largest: float) -> tuple[float, float]:
    """95 % limits of ``value``, within what can be."""
    half = reach(parts, ALPHA)
    return max(lowest, value - half), min(largest, value + half)


def estimate_from(
    value: float,
    parts: Sequence[VarianceComponent],
    covers: Covers,
    *,
    lowest: float = -math.inf,
    largest: float = math.inf,
    n_seeds: int = 0,
    n_items: int = 0,
    n_clusters: int = 0,
) -> Estimate:
    """``value`` with the variance that ``parts`` make together."""
    low, high = limits(value, parts, lowest, largest)
    return Estimate(value, low, high, covers, tuple(parts), n_seeds, n_items, n_clusters, largest)


def ratio_from(logarithms: Estimate) -> Ratio:
    """The ratio less 1 whose logarithm was estimated."""
    low, high = (math.expm1(min(end, LARGEST)) for end in (logarithms.low, logarithms.high))
    return Ratio(**{**vars(logarithms), "value": math.expm1(logarithms.value), "low": low, "high": high})


def exact(value: float) -> Estimate:
    """A number without error: no test finds anything but itself."""
    return Estimate(value, value, value, Covers.NOTHING, n_seeds=1)


def proportion(successes: int, runs: int) -> Interval:
    """A share of independent runs (Clopper & Pearson 1934, Biometrika 26)."""
    low = float(beta.ppf(ALPHA / 2, successes, runs - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - ALPHA / 2, successes + 1, runs - successes)) if successes < runs else 1.0
    return Interval(successes / runs, low, high, Covers.RUNS)


def never_seen(n: int) -> float:
    """The largest share of ``n`` draws that may behave otherwise when none did (Clopper & Pearson, two-sided 95 %)."""
    return 1.0 - (ALPHA / 2) ** (1.0 / n)


def variance_of_few(squares: float, contributors: float, n: int) -> float:
    """Variance of a mean of ``n`` draws, no less than what draws that have not been seen may hold.

    ``squares``: sum of the squared contributions, each at most 1 / n in size; ``contributors``: how many make it up.
    Where all draws agree the t interval reaches as far as ``never_seen``. With every draw that deviates their size
    is known better, with one deviation of full size added to those seen; from about four on the sum stands alone.
    """
    unseen = (never_seen(n) * n / float(stdtrit(n - 1, 1 - ALPHA / 2))) ** 2
    return max(squares, unseen * (squares + 1 / n**2) / (contributors + 1))
