"""Which arms were trained in other numbers of steps: these may be chosen for each, and a board has to say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ecr_bench.arm import Arm
from ecr_bench.results.claim_settings import STAGES, Path, decides, effective, own_settings, reads, value_at

STEPS = "Steps of their own:"
"""How the note begins."""


def step_notes(experiments: Mapping[Arm, Iterable[Mapping[str, Any]]]) -> list[str]:
    """One note where arms were trained in other numbers of steps than others; none where all have the same budget.

    ``experiments``: those that each arm was run in. Steps that the name of an arm tells are not said again; of a
    board of several runs those that nobody knows are not.
    """
    had = {arm: dict(_steps(arm, runs)) for arm, runs in experiments.items()}
    counts: dict[Path, set[Any]] = {}
    for path, value in (one for steps in had.values() for one in steps.items()):
        counts.setdefault(path, set()).add(value)
    groups: dict[str, list[str]] = {}
    for arm, steps in had.items():
        said = ", ".join(f"{'.'.join(path)} = {steps[path]}" for path in steps if len(counts[path]) > 1)
        if said:
            groups.setdefault(said, []).append(str(arm))
    if not groups:
        return []
    usual = max(groups, key=lambda said: len(groups[said]))
    told = [f"{', '.join(arms)} ({said})" for said, arms in groups.items() if said != usual]
    return [f"{STEPS} {', '.join(told)}; the others have {usual}."]


def _steps(arm: Arm, runs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Path, Any]]:
    named = own_settings(arm)
    for whole in (effective(arm, run) for run in runs):
        for path in ((stage, "steps") for stage in STAGES if reads(arm, (stage,))):
            if not decides(named, path) and (value := value_at(whole, path)) is not None:
                yield path, value
