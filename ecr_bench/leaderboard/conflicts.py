"""What speaks against counting the arms of two runs as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ecr_bench.arm import Arm, Role

PlainJson = Mapping[str, Any]

SHARED = ("corpus", "seen_languages", "tokenizer", "tasks", "pretrain", "finetune")
"""Sections that every arm depends on."""
OF_ANCHORS = ("teacher", "anchors", "projection", "control_tokens")
"""Sections that a plain model does not depend on."""
SEEDS = {"seed", "seed_per_cell"}
"""Settings of a section in which two runs may differ and be pooled: what seeds cover."""


def settings_of(arm: Arm, experiment: PlainJson) -> dict[str, Any]:
    """What an arm's numbers depend on in its experiment, as plain JSON, but for seeds."""
    sections = SHARED if arm.role is Role.PLAIN and not arm.modifiers else (*SHARED, *OF_ANCHORS)
    found = {name: _without_seeds(experiment[name]) for name in sections if name in experiment}
    owners = (arm.method, *arm.modifiers)
    options = experiment.get("options", {})
    return {
        **found,
        "size": experiment.get("sizes", {}).get(arm.size),
        "options": {name: options[name] for name in owners if name in options},
        "tuned": [chosen["set"] for chosen in experiment.get("tuned", ()) if _is_for(chosen, arm)],
    }


def conflict(arm: Arm, ours: PlainJson, theirs: PlainJson) -> tuple[str, Any, Any] | None:
    """The first setting in which an arm of this name differs between two experiments: dotted key and both values."""
    one, other = (dict(_flat(settings_of(arm, experiment))) for experiment in (ours, theirs))
    keys = [*one, *(key for key in other if key not in one)]
    return next(((key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)), None)


def environments(runs: Mapping[str, PlainJson]) -> Iterator[str]:
    """Lines that name what differs between the machines and packages of runs, by their provenance."""
    told = {name: {**(p.get("packages") or {}), "python": p.get("python"), **_machine(p)} for name, p in runs.items()}
    for key in sorted(set().union(*(facts.keys() for facts in told.values()))):
        values = {name: facts.get(key) for name, facts in told.items()}
        if len({str(value) for value in values.values()}) > 1:
            yield f"{key}: " + ", ".join(f"{value} ({name})" for name, value in values.items())


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _flat(below, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _machine(provenance: PlainJson) -> dict[str, Any]:
    machine = provenance.get("machine") or {}
    return {key: machine.get(key) for key in ("cpu", "gpu")}


def _without_seeds(section: Any) -> Any:
    return (
        {key: value for key, value in section.items() if key not in SEEDS} if isinstance(section, Mapping) else section
    )


def _is_for(chosen: PlainJson, arm: Arm) -> bool:
    same = chosen["method"] == arm.method and set(chosen.get("with", ())) == set(arm.modifiers)
    return same and arm.size in chosen["sizes"]
