"""How many times larger a plain model must be to equal ECR at the smallest size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ecr_bench.arm import Arm, NamedArm
from ecr_bench.results.schema import Measured, Record
from ecr_bench.statistics.paired import seed_variance
from ecr_bench.statistics.panel import Panel


class EqualSize(Record):
    """The size at which a plain model is as good as ``arm``, in multiples of the smallest plain model."""

    arm: NamedArm
    task: str
    factor: Measured
    """Null: no plain model that was run is as good. 1: the smallest one is already."""
    low: Measured
    high: Measured
    """95 % interval; null for 'beyond the largest run'."""
    largest: float
    """The largest plain model that was run."""
    covers: str
    """``items and seeds``, or ``items`` where no arm has two seeds."""

    @property
    def sentence(self) -> str:
        """The same in words."""
        low, found, high = (_words(factor, self.largest) for factor in (self.low, self.factor, self.high))
        return (
            f"On {self.task} tasks {self.arm} equals a plain model {found} times the size of the smallest "
            f"(95 % interval {low} to {high} times, over {self.covers})."
        )


def _words(factor: float | None, largest: float) -> str:
    if factor is None:
        return f"more than {largest:.3g}"
    return "at most 1" if factor <= 1 else f"{factor:.2g}"


def crossing(ratios: Sequence[float], plain: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """First size at which the plain curve reaches ``wanted``, linear in accuracy over the logarithm of size.

    Args:
        ratios: S rising sizes, the first 1.
        plain: (S, R) accuracy of the plain model at each size, in R draws.
        wanted: (R,) accuracy to equal.

    Returns:
        (R,) sizes; 1 where the smallest is enough, inf where the largest is not.
    """
    sizes = np.log(np.asarray(ratios))
    result = np.full(wanted.shape, np.inf)
    for i in range(len(sizes) - 1, 0, -1):
        low, high = plain[i - 1], plain[i]
        step = np.where(high > low, high - low, 1.0)
        share = np.clip((wanted - low) / step, 0.0, 1.0)
        between = np.exp(sizes[i - 1] + share * (sizes[i] - sizes[i - 1]))
        result = np.where(high >= wanted, between, result)
    return np.where(plain[0] >= wanted, 1.0, result)


def equal_size(panel: Panel, precision: str, arm: Arm, plain: Sequence[tuple[Arm, float]], task: str) -> EqualSize:
    """Compare ``arm`` with the plain arms, given as (arm, parameters over those of the smallest), rising.

    The interval takes all arms through the same cluster bootstrap, so it is paired, and adds to each arm normal
    noise of the pooled between-seed variance (statistics/paired.py); percentiles of the 2,000 crossings.
    """
    pooled = seed_variance(panel, precision, task)
    noise = np.random.default_rng(0)

    def draws(arm: Arm) -> tuple[float, np.ndarray]:
        rows = panel.rows(str(arm), precision)
        value = float(np.mean([panel.mean(row, task) for row in rows]))
        drawn = np.mean([panel.replicates(row, task) for row in rows], axis=0)
        return value, value + drawn + noise.normal(0.0, math.sqrt(pooled.net / len(rows)), len(drawn))

    ratios = [ratio for _, ratio in plain]
    values, replicates = zip(*(draws(other) for other, _ in plain), strict=True)
    wanted, wanted_draws = draws(arm)
    point = crossing(ratios, np.array(values)[:, None], np.array([wanted]))[0]
    low, high = np.quantile(crossing(ratios, np.stack(replicates), wanted_draws), [0.025, 0.975], method="nearest")
    return EqualSize(
        arm=arm,
        task=task,
        factor=float(point),
        low=float(low),
        high=float(high),
        largest=ratios[-1],
        covers="items and seeds" if pooled.df else "items",
    )
