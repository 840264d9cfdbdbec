"""Paired differences of numbers of which a cell has one: t interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecr_bench.statistics.interval import Covers, Estimate, VarianceComponent, estimate_from, exact, ratio_from

MIN_SEEDS = 2


class NoIntervalError(ValueError):
    """The same difference in every seed says nothing about how it varies."""

    def __init__(self, message: str, value: float) -> None:
        super().__init__(message)
        self.value = value
        """That difference."""


@dataclass(frozen=True)
class Draws:
    """What two arms are paired by, in words, and what the interval then covers."""

    one: str
    covers: Covers


SEEDS = Draws("seed", Covers.SEEDS)
ROUNDS = Draws("round", Covers.ROUNDS)


def mean_difference(
    a: Mapping[int, float], b: Mapping[int, float], n: int = 0, relative: bool = False, draws: Draws = SEEDS
) -> Estimate:
    """Mean over common seeds (or what else ``draws`` says) of a minus b; if ``relative``, their mean ratio less 1.

    ``a``, ``b``: seed -> number of that cell, above 0 if ``relative``: then the mean is that of the logarithms of a / b
    (a geometric one), so that noise makes neither side dearer. ``n``: what each rests on (Estimate.n_items).
    ValueError with the reason in words where there is no interval: fewer than two common seeds, or (NoIntervalError)
    the same difference in every seed.
    """
    seeds = sorted(set(a) & set(b))
    if len(seeds) < MIN_SEEDS:
        raise ValueError(f"{len(seeds) or 'no'} {draws.one}{'s' * (len(seeds) != 1)} in common, two are needed")
    d = np.array([math.log(a[seed] / b[seed]) if relative else a[seed] - b[seed] for seed in seeds])
    taken = mean_over_seeds(d, n, draws.covers)
    found = ratio_from(taken) if relative else taken
    if taken.se <= 1e-12 * max(1.0, abs(taken.value)):
        words = f"the difference is {found.value:.4g} in each of {len(seeds)} {draws.one}s, so no interval can be drawn"
        raise NoIntervalError(words, found.value)
    return found


def mean_over_seeds(values: Sequence[float] | np.ndarray, n: int = 0, covers: Covers = Covers.SEEDS) -> Estimate:
    """Mean of one number a seed, of two or more; ``n``: what each rests on."""
    variance = float(np.var(values, ddof=1)) / len(values)
    part = VarianceComponent(variance, len(values) - 1)
    return estimate_from(float(np.mean(values)), [part], covers, n_seeds=len(values), n_items=n)


def exact_difference(a: float, b: float) -> Estimate:
    """a / b - 1 of two counts that are the same in every run: no error, no interval."""
    return exact(a / b - 1)
