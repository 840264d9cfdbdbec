"""How many times larger a plain model must be to equal ECR at the smallest size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ecr_bench.arm import Arm, NamedArm
from ecr_bench.results.schema import Finite, Record
from ecr_bench.statistics.paired import Term, estimate, value_of
from ecr_bench.statistics.panel import Panel

STEPS = 64
"""Sizes tried between two that were run."""


class EqualSize(Record):
    """The size at which a plain model is as good as ``arm``, in multiples of the smallest plain model."""

    arm: NamedArm
    task: str
    factor: Finite
    """Null: no plain model that was run is as good. 1: the smallest one is already."""
    low: Finite
    high: Finite
    """95 % interval; null for 'beyond the largest run'."""
    largest: float
    """The largest plain model that was run."""
    covers: str
    """``items and seeds``, or ``items`` where an arm has one seed."""

    @property
    def sentence(self) -> str:
        """The same in words."""
        good = f"is as good as {self.arm}"
        if self.factor is None:
            found = f"no plain model up to {_words(self.largest)} times the size of the smallest {good}"
        elif self.factor <= 1:
            found = f"the smallest plain model {good}"
        else:
            found = f"a plain model {_words(self.factor)} times the size of the smallest {good}"
        return f"Unseen languages, {self.task} tasks: {found} (95 % interval {self._interval}, over {self.covers})."

    @property
    def _interval(self) -> str:
        beyond = f"beyond {_words(self.largest)} times"
        if self.low is None:
            return beyond
        low = "the smallest" if self.low <= 1 else f"{_words(self.low)} times"
        if self.high is not None and self.high <= 1:
            return low
        return f"from {low} to {beyond if self.high is None else f'{_words(self.high)} times'}"


def _words(factor: float) -> str:
    return f"{factor:.2g}" if factor < 9.95 else f"{factor:.3g}"


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

    A size belongs to the interval if a plain model of that size, interpolated between its neighbours, is not told from
    ``arm`` (the set of Fieller 1954, J. R. Stat. Soc. B 16, from the smallest to the largest size in it).
    """
    ratios = [ratio for _, ratio in plain]
    rows = [panel.rows(str(other), precision) for other, _ in plain]
    wanted = Term(1.0, panel.rows(str(arm), precision))
    means = np.array([[np.mean([panel.mean(row, task) for row in own])] for own in rows])
    point = crossing(ratios, means, np.array([value_of(panel, [wanted], task)]))[0]
    sizes, combinations = zip(*_between(ratios, rows), strict=True)
    found = [estimate(panel, [wanted, *terms], task, lowest=-1.0) for terms in combinations]
    low = next((size for size, difference in zip(sizes, found, strict=True) if difference.low <= 0), math.inf)
    high = max((size for size, difference in zip(sizes, found, strict=True) if difference.high >= 0), default=1.0)
    return EqualSize(
        arm=arm,
        task=task,
        factor=float(point),
        low=min(low, float(point)),
        high=max(float(point), math.inf if high == sizes[-1] else high),
        largest=ratios[-1],
        covers=found[0].covers,
    )


def _between(ratios: Sequence[float], rows: Sequence[Sequence[int]]) -> Iterator[tuple[float, list[Term]]]:
    """Sizes from the first to the last with minus the plain model there, linear over the logarithm of size."""
    yield ratios[0], [Term(-1.0, rows[0])]
    for i in range(len(ratios) - 1):
        for share in np.linspace(0.0, 1.0, STEPS + 1)[1:]:
            size = ratios[i] ** (1 - share) * ratios[i + 1] ** share
            terms = [Term(share - 1.0, rows[i]), Term(-share, rows[i + 1])]
            yield float(size), [term for term in terms if term.factor]
