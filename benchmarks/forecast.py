"""How far plans were off: expected against measured, of every run under ``--data`` that has a ``plan.json``.

A factor of 1.10 is 10 % more or 10 % less; low and high are the extremes over the stages.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Options, Result
from ecr_bench.errors import UserError
from ecr_bench.forecast.expected import TRAINING
from ecr_bench.forecast.kept import FILE, PlanKept, read_kept

STAGE, WHOLE, MEMORY = 1.25, 1.2, 1.1
"""Most that a training stage, a whole run and a peak of memory may be off by."""


def run(options: Options) -> Iterator[Result]:
    folders = sorted(path.parent for path in Path(options.data or "runs").glob(f"*/{FILE}"))
    if not folders:
        raise UserError(
            f"no {FILE} under {options.data or 'runs'}: run an experiment first, and name --out with --data"
        )
    for folder in folders:
        yield from compared(read_kept(folder))


def compared(plan: PlanKept) -> Iterator[Result]:
    """The worst training stage, the whole run, the worst peak; nothing for what was unknown before."""
    about = {"on": str(plan.hardware), "workers": plan.workers, "stages": len(plan.stages)}
    training = [one for one in plan.stages if one.kind in TRAINING]
    if offs := [one.off for one in training if one.off is not None]:
        yield _result(f"{plan.name}: seconds of a training stage", offs, STAGE, **about, known=len(offs))
    if plan.expected_seconds:
        whole = [plan.seconds / plan.expected_seconds - 1]
        spent = {"expected s": round(plan.expected_seconds), "measured s": round(plan.seconds)}
        yield _result(f"{plan.name}: seconds of the whole run", whole, WHOLE, **about, **spent)
    if offs := [one.memory_off for one in training if one.memory_off is not None]:
        yield _result(f"{plan.name}: peak memory of a training stage", offs, MEMORY, **about, known=len(offs))


def _result(what: str, offs: list[float], need: float, **beside: object) -> Result:
    """``offs``: measured over expected, minus 1. The value is the largest factor, either way."""
    factors = [max(1 + off, 1 / (1 + off)) for off in offs]
    median = f"{100 * statistics.median(offs):+.0f} %"
    beside |= {"median": median, "from": f"{100 * min(offs):+.0f} %", "to": f"{100 * max(offs):+.0f} %"}
    worst = max(factors)
    return Result(what, "its plan", worst, min(factors), worst, need, at_least=False, beside=beside)
