"""Which arms were trained in different numbers of steps: these may be chosen for each, and a board has to say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ecr_bench.arm import Arm, Setting, as_setting
from ecr_bench.nested import value_at
from ecr_bench.results.claim_settings import Path, decides, effective, own_settings, reads
from ecr_bench.sizes import STAGES

STEPS = "Steps differ:"
"""How the note begins."""


def step_notes(experiments: Mapping[Arm, Iterable[Mapping[str, Any]]]) -> list[str]:
    """One note where arms were trained in different numbers of steps; none where all have the same budget.

    ``experiments``: those that each arm was run in. Steps that the name of an arm tells are not said again, and of a
    board of several runs those that nobody knows are not.
    """
    had = {arm: _steps(arm, runs) for arm, runs in experiments.items()}
    paths = dict.fromkeys(path for steps in had.values() for path in steps)
    groups: dict[str, list[str]] = {}
    for path in paths:
        counts = {arm: steps[path] for arm, steps in had.items() if path in steps}
        if len(set(counts.values())) > 1:
            for arm, count in counts.items():
                groups.setdefault(f"{'.'.join(path)} = {count}", []).append(str(arm))
    told = "; ".join(f"{said}: {', '.join(arms)}" for said, arms in groups.items())
    return [f"{STEPS} {told}."] if groups else []


def _steps(arm: Arm, runs: Iterable[Mapping[str, Any]]) -> dict[Path, str]:
    named = own_settings(arm)
    found: dict[Path, dict[Setting, None]] = {}
    for whole in (effective(arm, run) for run in runs):
        for path in ((stage, "steps") for stage in STAGES if reads(arm, (stage, "steps"))):
            if not decides(named, path) and (value := value_at(whole, path)) is not None:
                found.setdefault(path, {})[as_setting(value)] = None
    return {path: " and ".join(map(str, values)) for path, values in found.items()}
