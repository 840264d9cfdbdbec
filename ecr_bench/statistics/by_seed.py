"""Paired differences of numbers of which a cell has one: t interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import t as student

from ecr_bench.statistics.paired import ALPHA, POWER, Estimate

MIN_SEEDS = 2


def mean_difference(a: Mapping[int, float], b: Mapping[int, float], n: int = 0, relative: bool = False) -> Estimate:
    """Mean over common seeds of a minus b, or of a / b - 1 if ``relative``.

    ``a``, ``b``: seed -> number of that cell; ``n``: what each rests on (Estimate.n_items). ValueError with the
    reason in words where there is no interval: fewer than two common seeds, or the same difference in every seed,
    which says nothing about how it varies.
    """
    seeds = sorted(set(a) & set(b))
    if len(seeds) < MIN_SEEDS:
        raise ValueError(f"{len(seeds) or 'no'} seed{'s' * (len(seeds) != 1)} in common, two are needed")
    d = np.array([a[seed] / b[seed] - 1 if relative else a[seed] - b[seed] for seed in seeds])
    df = len(seeds) - 1
    se = float(d.std(ddof=1) / np.sqrt(len(seeds)))
    value = float(d.mean())
    if se <= 1e-12 * max(1.0, abs(value)):
        raise ValueError(f"the difference is {value:.4g} in each of {len(seeds)} seeds, so no interval can be drawn")
    reach = float(student.ppf(1 - ALPHA / 2, df))
    mdd = (reach + float(student.ppf(POWER, df))) * se
    low, high = value - reach * se, value + reach * se
    estimate = Estimate(value, low, high, se, float(df), 1.0, mdd, len(seeds), n, 0, "seeds")
    return Estimate(**{**vars(estimate), "p": p_against(estimate, 0.0)})


def exact_difference(a: float, b: float) -> Estimate:
    """a / b - 1 of two counts that are the same in every run: no error, no interval."""
    value = a / b - 1
    return Estimate(value, value, value, 0.0, 1.0, float(value == 0), 0.0, 1, 0, 0, "nothing")


def p_against(estimate: Estimate, threshold: float) -> float:
    """Two-sided p-value of value = ``threshold``."""
    if estimate.se == 0:
        return float(estimate.value == threshold)
    return float(2 * student.sf(abs(estimate.value - threshold) / estimate.se, estimate.df))
