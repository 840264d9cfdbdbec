"""What a stage will cost, from measurements of its shape."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ecr_bench.forecast.measurement import Measurement

RECORDS = ("score", "items")
"""Kinds of stage whose files are a line for each unit."""
TRAINING = ("base", "train")
"""Kinds of stage that train step by step; their probes begin with the heaviest batch."""


@dataclass(frozen=True)
class Expected:
    """None for what no measurement says."""

    seconds: float | None = None
    memory: int | None = None
    """Peak in bytes."""
    least: bool = False
    """Whether that is a lower bound, of a shorter stage."""
    disk: int | None = None
    """Bytes it will write."""
    parameters: int | None = None
    flops: float | None = None
    """Of all steps."""
    same_code: bool = False
    """Whether a measurement was taken with the code the stage will run."""

    @property
    def known(self) -> bool:
        return self.seconds is not None


def expect(measurements: Sequence[Measurement], units: float, code: str, on_gpu: bool = False) -> Expected:
    """Of a stage with so many ``units``, from measurements of its shape, hardware and threads.

    Those of its code count, or where there are none those of any; of these the ones whose units are nearest.
    ``on_gpu``: its peak is what it allocates there, which for a training is that of its heaviest batch, however long it
    is. In main memory batches of many lengths leave holes.
    """
    own = [one for one in measurements if one.code == code]
    chosen = own or list(measurements)
    if not chosen:
        return Expected()
    nearest = _nearest(chosen, units)
    largest = max((one for one in nearest if one.memory), key=lambda one: (one.memory, one.units), default=None)
    counted = [one.flops_per_unit for one in measurements if one.flops_per_unit is not None]
    parameters = [one.parameters for one in chosen if one.parameters is not None]
    return Expected(
        seconds=_seconds(chosen, units),
        memory=largest.memory if largest else None,
        least=largest is not None and largest.units < units and not (on_gpu and largest.kind in TRAINING),
        disk=_disk(nearest[-1], units),
        parameters=parameters[0] if parameters else None,
        flops=units * statistics.fmean(counted) if counted else None,
        same_code=bool(own),
    )


def _disk(one: Measurement, units: float) -> int:
    """Bytes: records grow with the items, a model not with its steps."""
    return round(one.disk * units / one.units) if one.kind in RECORDS else one.disk


def _seconds(found: Sequence[Measurement], units: float) -> float | None:
    near = [seconds for one in _nearest(found, units) if (seconds := one.at(units)) is not None]
    return statistics.median(near) if near else _line([(one.units, one.seconds) for one in found], units)


def _nearest(found: Sequence[Measurement], units: float) -> list[Measurement]:
    def distance(one: Measurement) -> float:
        return abs(math.log(max(one.units, 1e-9) / max(units, 1e-9)))

    least = min(map(distance, found))
    return [one for one in found if distance(one) <= least + 1e-12]


def _line(points: Sequence[tuple[float, float]], units: float) -> float | None:
    """The value at ``units`` on the line through the two nearest of ``points`` (the median where several have the same
    units). With one point: its value at its units, else None."""
    by_units: dict[float, list[float]] = {}
    for at, value in points:
        by_units.setdefault(at, []).append(value)
    known = {at: statistics.median(values) for at, values in by_units.items()}
    if units in known:
        return known[units]
    nearest = sorted(known, key=lambda at: abs(at - units))[:2]
    if len(nearest) < 2:
        return None
    (a, b) = nearest
    return max(0.0, known[a] + (units - a) * (known[b] - known[a]) / (b - a))
