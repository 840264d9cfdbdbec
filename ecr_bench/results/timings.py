"""Times that were measured to be compared: one machine, arms in turn, repeated. ``timings.json`` of a run.

The seconds in cells.json are those of whatever else the machine did at the time; no claim rests on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field

from ecr_bench.arm import Arm, NamedArm
from ecr_bench.results.schema import Record
from ecr_bench.statistics.by_seed import ROUNDS, mean_difference
from ecr_bench.statistics.interval import Estimate

TimedMetric = Literal["train_seconds", "ms_per_item"]
TRAINING: TimedMetric = "train_seconds"
SCORING: TimedMetric = "ms_per_item"
TIMES: tuple[TimedMetric, ...] = get_args(TimedMetric)
FEWEST_ROUNDS = 3
"""Rounds under which two arms are not compared."""


class Timing(Record):
    """One arm, timed once in each round."""

    arm: NamedArm
    seed: int
    metric: TimedMetric
    """``train_seconds``: of a step of fine-tuning, or of all of it; ``ms_per_item``: of scoring an item."""
    precision: str
    """Of scoring; of training the first that the arm was scored at."""
    rounds: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    """One value a round, in the unit of the metric."""
    count: int = Field(ge=1)
    """Steps or items that each value is the mean of."""
    session: str
    """Timings of one session were taken in one sitting; only these are compared."""
    interleaved: bool
    """In each round every arm of the session was timed, one after the other, so that what slows the machine for a
    while slows them all."""
    host: str
    device: str
    """What computed, by its name, with the number of threads of a CPU."""
    code: str
    """Commit or version."""


def obstacle(a: Timing, b: Timing) -> str | None:
    """Why two timings cannot be compared, in words; None where they can."""
    for name in ("session", "host", "device"):
        if getattr(a, name) != getattr(b, name):
            return f"{a.arm} and {b.arm} were timed in another {name}"
    if a.count != b.count:
        return f"{a.arm} and {b.arm} were timed over {a.count} and {b.count} steps or items"
    if not (a.interleaved and b.interleaved):
        return f"{a.arm} and {b.arm} were not timed in turn"
    if len(a.rounds) != len(b.rounds) or len(a.rounds) < FEWEST_ROUNDS:
        return f"{len(a.rounds)} and {len(b.rounds)} rounds, {FEWEST_ROUNDS} or more of both are needed"
    return None


def ratio(a: Timing, b: Timing) -> Estimate:
    """a / b - 1, paired by round. ValueError with the reason in words where there is none."""
    if reason := obstacle(a, b):
        raise ValueError(reason)
    first, second = (dict(enumerate(timing.rounds)) for timing in (a, b))
    return mean_difference(first, second, relative=True, draws=ROUNDS)


def find(timings: Iterable[Timing], metric: str, arm: Arm, precision: str) -> Timing | None:
    """The timing of an arm; training is timed once, whatever precisions the arm is scored at."""
    for timing in timings:
        if (timing.metric, timing.arm) == (metric, arm) and (metric == TRAINING or timing.precision == precision):
            return timing
    return None


def fault_of(timings: Sequence[Timing]) -> str | None:
    """What cannot be in what one session gave; None for nothing."""
    seen = set()
    for timing in timings:
        key = (timing.session, timing.metric, timing.arm, timing.precision)
        if key in seen:
            return f"{timing.metric} of {timing.arm} in {timing.precision} is there twice"
        seen.add(key)
    for session in dict.fromkeys(timing.session for timing in timings):
        lengths = {len(timing.rounds) for timing in timings if timing.session == session}
        if len(lengths) > 1:
            return f"session {session} has timings of {' and '.join(map(str, sorted(lengths)))} rounds"
    return None
