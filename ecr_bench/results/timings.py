"""Times that were measured to be compared: one machine, arms in turn, repeated. ``timings.json`` of a run.

The seconds in cells.json are those of whatever else the machine did at the time; no claim rests on them.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from ecr_bench.arm import NamedArm
from ecr_bench.results.schema import Record

TimedMetric = Literal["train_seconds", "ms_per_item"]
TIMES: tuple[TimedMetric, ...] = get_args(TimedMetric)
FEWEST_ROUNDS = 3
"""Rounds under which two arms are not compared."""


class Timing(Record):
    """One arm, timed once in each round."""

    arm: NamedArm
    metric: TimedMetric
    """``train_seconds``: of fine-tuning, or of a stated number of its steps, the same for all arms of a session;
    ``ms_per_item``: of scoring."""
    precision: str
    rounds: tuple[float, ...] = Field(min_length=1)
    """One value a round, in the unit of the metric."""
    session: str
    """Timings of one session were taken in one sitting; only these are compared."""
    interleaved: bool
    """In each round every arm of the session was timed, one after the other, so that what slows the machine for a
    while slows them all."""
    host: str
    device: str


def obstacle(a: Timing, b: Timing) -> str | None:
    """Why two timings cannot be compared, in words; None where they can."""
    for name in ("session", "host", "device"):
        if getattr(a, name) != getattr(b, name):
            return f"{a.arm} and {b.arm} were timed in another {name}"
    if not (a.interleaved and b.interleaved):
        return f"{a.arm} and {b.arm} were not timed in turn"
    if len(a.rounds) != len(b.rounds) or len(a.rounds) < FEWEST_ROUNDS:
        return f"{len(a.rounds)} and {len(b.rounds)} rounds, {FEWEST_ROUNDS} or more of both are needed"
    return None
