"""What speaks against counting the arms of two runs as one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import options_of
from ecr_bench.results.claim_settings import tuned_for

PlainJson = Mapping[str, Any]

SHARED = ("corpus", "seen_languages", "tokenizer", "tasks", "pretrain", "finetune")
"""Sections that every arm depends on."""
OF_ANCHORS = ("teacher", "anchors", "projection", "control_tokens")
"""Sections that a plain model does not depend on."""
OF_MEASURES = ("teacher", "geometry")
"""Sections that measures of hidden states depend on, those of plain models too."""
SEEDS = {"seed", "seed_per_cell"}
"""Settings of a section in which two runs may differ and be pooled: what seeds cover."""


def settings_of(arm: Arm, experiment: PlainJson) -> dict[str, Any]:
    """What an arm's numbers depend on in its experiment, as plain JSON, but for seeds.

    UserError where a section is not there: an older version kept of a board of several runs only what all share.
    """
    sections = SHARED if arm.role is Role.PLAIN and not arm.modifiers else (*SHARED, *OF_ANCHORS)
    if (lost := next((name for name in sections if name not in experiment), None)) is not None:
        raise UserError(f"{arm}: what its runs have in {lost} is not known; merge the runs, not the board made of them")
    found = {name: _without_seeds(experiment[name]) for name in sections}
    given = experiment.get("options", {})
    options = {name: _defaults(name) | given.get(name, {}) for name in _owners(arm, found)}
    tuned = tuned_for(arm, experiment)
    sizes = experiment.get("sizes", {})
    named = json.dumps([found, options, tuned, dict(arm.settings)])
    return {
        **found,
        "size": sizes.get(arm.size),
        "other sizes": {name: size for name, size in sizes.items() if json.dumps(name) in named},
        "options": options,
        "tuned": tuned,
    }


def _owners(arm: Arm, sections: PlainJson) -> list[str]:
    """Methods and modifiers whose options count for an arm: its own, and distillation where pre-training distils."""
    distils = sections["pretrain"].get("distill") or dict(arm.settings).get("pretrain.distill")
    return list(dict.fromkeys((arm.method, *arm.modifiers, *(("distill",) if distils else ()))))


def _defaults(name: str) -> dict[str, Any]:
    """What a method or modifier does where an experiment says nothing; nothing of a plugin that is not here."""
    kind = next((registry.get(name) for registry in (METHODS, MODIFIERS) if name in registry), None)
    fields = options_of(kind).model_fields if kind else {}
    return {key: field.default for key, field in fields.items() if not field.is_required()}


def measured_apart(experiments: Iterable[PlainJson]) -> list[str]:
    """Sections in which experiments differ so that what was measured of hidden states cannot be compared."""
    first, *others = experiments
    return [
        name
        for name in OF_MEASURES
        if any(name not in one or name not in first or one[name] != first[name] for one in others)
    ]


def conflict(arm: Arm, ours: PlainJson, theirs: PlainJson) -> tuple[str, Any, Any] | None:
    """The first setting in which an arm of this name differs between two experiments: dotted key and both values.

    UserError as ``settings_of``.
    """
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
    if isinstance(value, Mapping):
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
