"""What a second seed costs: only the stages that the seed changes run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.harness import Options, Result
from ecr_bench.config import load
from ecr_bench.runner.plan import make_plan


def run(options: Options) -> Iterator[Result]:
    """Counts in the plan of ``quick``; a stage that is in the store is not run again (tests/runner/test_execute.py)."""
    quick = load("quick")
    first, both = (
        make_plan(quick.with_overrides({"cells": [{"method": m, "seeds": seeds} for m in ("finetune", "ecr")]}))
        for seeds in ([0], [0, 1])
    )
    new = both.stages.keys() - first.stages.keys()
    again = Counter(both.stages[stage].kind for stage in new)
    # a stage has reason to run where the seed is among its settings, or where it reads a stage that has
    idle = [both.stages[name] for name in new if not hasattr(both.stages[name].settings, "seed")]
    shared = sum(not new & set(stage.inputs.values()) for stage in idle)
    yield Result(
        "second seed: stages run again that it does not change",
        "first seed",
        shared / len(first.stages),
        shared / len(first.stages),
        shared / len(first.stages),
        need=0.0,
        at_least=False,
        beside={"stages of the first": len(first.stages), **{f"again: {kind}": n for kind, n in again.items()}},
    )
