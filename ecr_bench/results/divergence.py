"""How often training failed, per line of an ablation and pooled over its axis (learning rates x seeds)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ecr_bench.arm import Arm
from ecr_bench.results.schema import Record
from ecr_bench.runner.ablation import Place
from ecr_bench.statistics.interval import proportion
from ecr_bench.types import Measure

ALL = "all"


class Stability(Record):
    """Runs of one line at one value of the axis, or at all of them."""

    series: str
    label: str
    """The value on the axis; ``all`` for the whole line."""
    runs: int
    diverged: int
    rate: float
    ci: tuple[float, float]
    """95 % interval of the divergence rate (Clopper & Pearson 1934)."""
    spike_score: float | None
    """Means over runs, as of the next; null where no run could be judged."""
    loss_spikes: float | None
    grad_norm_median: float | None
    """Medians over runs, as of the next two, since one run can be above all others by orders; null where infinite."""
    grad_norm_p95: float | None
    grad_norm_max: float | None


SPIKES = ("spike_score", "loss_spikes")
GRADIENTS = ("grad_norm_median", "grad_norm_p95", "grad_norm_max")
METRICS = (*SPIKES, *GRADIENTS)


def stability_of(places: Sequence[Place], measures: Iterable[Measure]) -> list[Stability]:
    """One row for each place that has runs, and one for each line of several values."""
    by_arm: dict[Arm, list[Measure]] = {}
    for m in measures:
        by_arm.setdefault(m.arm, []).append(m)
    lines: dict[str, list[tuple[str, list[Measure]]]] = {}
    for place in places:
        if found := by_arm.get(place.arm):
            lines.setdefault(place.series, []).append((place.label, found))
    rows = []
    for series, points in lines.items():
        parts = [*points, (ALL, [m for _, found in points for m in found])] if len(points) > 1 else points
        rows += [row for label, found in parts if (row := _row(series, label, found))]
    return rows


def _row(series: str, label: str, measures: Sequence[Measure]) -> Stability | None:
    outcomes = [m.value for m in measures if m.metric == "diverged" and m.value is not None]
    if not outcomes:
        return None
    failed = int(sum(outcomes))
    rate = proportion(failed, len(outcomes))
    return Stability(
        series=series,
        label=label,
        runs=len(outcomes),
        diverged=failed,
        rate=rate.value,
        ci=(rate.low, rate.high),
        **{name: _mean(measures, name) for name in SPIKES},
        **{name: _median(measures, name) for name in GRADIENTS},
    )


def _mean(measures: Sequence[Measure], metric: str) -> float | None:
    values = [m.value for m in measures if m.metric == metric and m.value is not None]
    return float(np.mean(values)) if values else None


def _median(measures: Sequence[Measure], metric: str) -> float | None:
    """A norm that overflowed has no value, and counts as larger than all others."""
    values = [np.inf if m.value is None else m.value for m in measures if m.metric == metric]
    middle = float(np.median(values)) if values else np.inf
    return middle if np.isfinite(middle) else None
