"""How many times larger a plain model must be to equal ECR at the smallest size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from pydantic import model_validator

from ecr_bench.arm import Arm, NamedArm
from ecr_bench.results.schema import Finite, Record
from ecr_bench.statistics.interval import Covers
from ecr_bench.statistics.paired import Term, estimate, kappa_of, value_of
from ecr_bench.statistics.panel import Panel

PlainSizes = Sequence[tuple[Arm, float]]
"""Plain models and their parameters over those of the smallest, rising from 1."""

STEPS = 64
"""Sizes tried between two that were run."""


class EqualSize(Record):
    """The size at which a plain model is as good as ``arm``, in multiples of the smallest plain model."""

    arm: NamedArm
    task: str
    factor: Finite
    """Null: no plain model that was run is as good. 1: the smallest one is already."""
    alike: list[tuple[float, float]]
    """Sizes, from and to, at which a plain model is not told from ``arm`` (95 %); rising, none above ``largest``."""
    largest: float
    """The largest plain model that was run."""
    covers: str
    """``items and seeds``, or ``items`` where an arm has one seed, a plain model of any size among them."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_interval(cls, data: Any) -> Any:
        """Until 2026-11-28 the smallest and the largest of these sizes were kept, null for one beyond the largest."""
        if not isinstance(data, dict) or "low" not in data:
            return data
        rest = {name: value for name, value in data.items() if name not in ("low", "high")}
        ends = [data["largest"] if data.get(name) is None else data[name] for name in ("low", "high")]
        return {**rest, "alike": [] if data["low"] is None else [ends]}

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
        return f"Unseen languages, {self.task} tasks: {found}; {self._told} (95 %, over {self.covers})."

    @property
    def _told(self) -> str:
        if not self.alike:
            return "at every size they are told apart"
        said = [_words(a) if a == b else f"{_words(a)} to {_words(b)}" for a, b in self.alike]
        return f"not told apart at {' and '.join(said)} times"


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


def equal_size(panel: Panel, precision: str, arm: Arm, plain: PlainSizes, task: str) -> EqualSize:
    """Compare ``arm`` with the ``plain`` models.

    Not told apart is a size where a plain model, interpolated between its neighbours, does not differ from ``arm`` (the
    set of Fieller 1954, J. R. Stat. Soc. B 16, which need not be one interval: sizes between may scatter less). Where a
    model was run, it does not differ exactly where 0 lies in the interval of its difference (``compare``).
    """
    ratios = [ratio for _, ratio in plain]
    rows = [panel.rows(str(other), precision) for other, _ in plain]
    own = panel.rows(str(arm), precision)
    wanted = Term(1.0, own)
    means = np.array([[np.mean([panel.mean(row, task) for row in other])] for other in rows])
    point = crossing(ratios, means, np.array([value_of(panel, [wanted], task)]))[0]
    tried = list(_between(ratios, rows, [kappa_of(panel, other, own, task) for other in rows]))
    found = [estimate(panel, [wanted, *one.terms], task, lowest=-1.0, kappa=one.kappa) for one in tried]
    return EqualSize(
        arm=arm,
        task=task,
        factor=float(point),
        alike=ranges([one.size for one in tried], [difference.low <= 0 <= difference.high for difference in found]),
        largest=ratios[-1],
        covers=next((one.covers for one in found if one.covers is Covers.ITEMS), Covers.ITEMS_AND_SEEDS),
    )


def ranges(sizes: Sequence[float], chosen: Sequence[bool]) -> list[tuple[float, float]]:
    """First and last of each unbroken row of ``chosen`` sizes."""
    rows = groupby(zip(sizes, chosen, strict=True), itemgetter(1))
    parts = [[size for size, _ in part] for inside, part in rows if inside]
    return [(part[0], part[-1]) for part in parts]


class _Size(NamedTuple):
    """A size that is tried."""

    size: float
    terms: list[Term]
    """Minus the plain model there."""
    kappa: float
    """Share of the seed effects that is left in its difference from the arm."""


def _between(ratios: Sequence[float], rows: Sequence[Sequence[int]], kappas: Sequence[float]) -> Iterator[_Size]:
    """Sizes from the first to the last, all linear over the logarithm of size.

    ``kappas`` as well: with the larger of two ends, an interval would jump where a model was run, and cut that one size
    out of a range.
    """
    yield _Size(ratios[0], [Term(-1.0, rows[0])], kappas[0])
    for i in range(len(ratios) - 1):
        for share in np.linspace(0.0, 1.0, STEPS + 1)[1:]:
            size = ratios[i] ** (1 - share) * ratios[i + 1] ** share
            terms = [Term(share - 1.0, rows[i]), Term(-share, rows[i + 1])]
            kappa = (1 - share) * kappas[i] + share * kappas[i + 1]
            yield _Size(float(size), [term for term in terms if term.factor], float(kappa))
