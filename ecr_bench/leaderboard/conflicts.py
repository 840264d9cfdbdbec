"""What speaks against counting the arms of two runs as one."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.methods.registry import default_options
from ecr_bench.metrics.registry import AGAINST_TEACHER, ASPECTS
from ecr_bench.results.claim_settings import NotTestedError, asks_teacher, has_path, reads, setting_of, tuned_for

PlainJson = Mapping[str, Any]

SHARED = ("corpus", "seen_languages", "tokenizer", "tasks", "pretrain", "finetune")
"""Sections that every arm depends on."""
OF_ANCHORS = ("teacher", "anchors", "projection", "control_tokens")
"""Sections that a plain model does not depend on."""
OF_STATES = {"drift", "manifold", "cross-lingual", "semantic similarity"}
"""Aspects of hidden states."""
OF_MEASURES = {
    "teacher": {*AGAINST_TEACHER},
    "geometry": {
        "bits_per_byte",
        *(name for name, aspect in ASPECTS.items() if aspect in OF_STATES and name != "rankc"),
    },
}
"""Section -> metrics that depend on it in every arm, plain ones too."""
UNMEASURED = {"measure", "snapshots"}
"""Settings of these sections that change no measure at the end of training."""
OF_CODE = ("commit", "ecr_bench", "python")
"""What a run says of the code that made it, beside its packages."""
SEEDS = {"seed", "seed_per_cell"}
"""Settings of a section in which two runs may differ and be pooled: what seeds cover."""
OF_ONE_ARM = {"learning_rate", "warmup", "weight_decay", "clip", "dropout"}
"""Settings that are chosen for each arm by itself (docs/protocol.md), and so say nothing against comparing two."""


def settings_of(arm: Arm, experiment: PlainJson) -> dict[str, Any]:
    """What an arm's numbers depend on in its experiment, as plain JSON, but for seeds.

    UserError where a section is not there: an older version kept of a board of several runs only what all share.
    """
    sections = SHARED if arm.role is Role.PLAIN and not arm.modifiers else (*SHARED, *OF_ANCHORS)
    needed = (*sections, "sizes", "options", *(() if "cells" in experiment else ("tuned",)))
    lost = next((name for name in needed if name not in experiment), None)
    if lost is not None:
        raise UserError(f"{arm}: its {lost} settings are not known: of a board of several runs merge the runs instead")
    found = {name: _without_seeds(experiment[name]) for name in sections}
    distils = ("distill",) if setting_of(arm, experiment, "pretrain.distill") else ()
    options = {
        name: default_options(name) | experiment["options"].get(name, {})
        for name in dict.fromkeys((arm.method, *arm.modifiers, *distils))
    }
    tuned, sizes = tuned_for(arm, experiment), experiment["sizes"]
    own = [str(value) for _, value in arm.settings]
    named = json.dumps([found, options, tuned]) + "".join(own)
    return {
        **found,
        "size": sizes.get(arm.size),
        "other sizes": {
            name: {**size, "tuned": tuned_for(Arm("finetune", name), experiment)}
            for name, size in sizes.items()
            if json.dumps(name) in named or name in own
        },
        "options": options,
        "tuned": tuned,
    }


def incomparable(parts: Iterable[tuple[Iterable[str], Iterable[PlainJson]]]) -> dict[str, set[str]]:
    """Section in which experiments differ -> metrics that can then not be compared.

    ``parts``: metrics that were measured, and the experiments that they were measured in.
    """
    known = [(set(metrics), list(experiments)) for metrics, experiments in parts]
    result = {}
    for section, concerned in OF_MEASURES.items():
        told = [one for metrics, experiments in known if metrics & concerned for one in experiments]
        values = [_without(one[section], UNMEASURED) if section in one else None for one in told]
        if any(value is None or value != values[0] for value in values[1:]):
            result[section] = set(concerned)
    return result


def conflicts(arm: Arm, ours: PlainJson, theirs: PlainJson) -> Iterator[tuple[str, Any, Any]]:
    """The settings in which an arm of this name differs between two experiments: dotted key and both values.

    UserError as ``settings_of``.
    """
    for path, here, there in _difference(*(settings_of(arm, experiment) for experiment in (ours, theirs))):
        yield ".".join(path), here, there


def unlike(one: Arm, other: Arm, ours: PlainJson, theirs: PlainJson) -> Iterator[tuple[str, Any, Any]]:
    """The settings that two arms both read, and would share in one experiment, in which they were run otherwise: dotted
    key and both values. What one of the experiments does not tell is not compared."""
    here, there = (_for_all((one, other), experiment) for experiment in (ours, theirs))
    for path, *_ in _difference(here, there):
        if all(has_path(side, path) for side in (here, there)) and all(reads(arm, path) for arm in (one, other)):
            key = ".".join(path)
            values = _run_with(key, (one, ours), (other, theirs))
            if values and values[0] != values[1]:
                yield key, values[0], values[1]


def _run_with(key: str, *runs: tuple[Arm, PlainJson]) -> list[Any]:
    """The value for each arm, which its own settings or what is tuned for it may decide; none where a board of an
    older version does not tell."""
    try:
        return [setting_of(arm, experiment, key) for arm, experiment in runs]
    except NotTestedError:
        return []


def _for_all(arms: tuple[Arm, Arm], experiment: PlainJson) -> dict[str, Any]:
    """What an experiment gives two arms alike: shared sections, the sizes that both are of or learn from, options of
    what both are made of."""
    sections = (name for name in (*SHARED, *OF_ANCHORS) if name in experiment)
    found = {name: _without(experiment[name], SEEDS | OF_ONE_ARM) for name in sections}
    sizes, options = experiment.get("sizes") or {}, experiment.get("options")
    shapes = {name: _without(sizes[name], OF_ONE_ARM) for name in _sizes_of_both(arms, experiment) if name in sizes}
    if options is not None:
        names = set.intersection(*({arm.method, *arm.modifiers} for arm in arms))
        found["options"] = {name: default_options(name) | options.get(name, {}) for name in sorted(names)}
    return found | {"sizes": shapes}


def _sizes_of_both(arms: tuple[Arm, Arm], experiment: PlainJson) -> list[str]:
    found = [arms[0].size] if arms[0].size == arms[1].size else []
    named = [(experiment.get("pretrain") or {}).get("distill")]
    if all(map(asks_teacher, arms)):
        named.append(((experiment.get("teacher") or {}).get("options") or {}).get("size"))
    return list(dict.fromkeys([*found, *(name for name in named if isinstance(name, str))]))


def environments(runs: Mapping[str, PlainJson]) -> Iterator[str]:
    """Lines that name what differs between the code, packages and machines of runs, by their provenance."""
    told = {
        name: {**(p.get("packages") or {}), **{key: p.get(key) for key in OF_CODE}, **_machine(p)}
        for name, p in runs.items()
    }
    for key in sorted(set().union(*(facts.keys() for facts in told.values()))):
        values = {name: facts.get(key) for name, facts in told.items()}
        if len({str(value) for value in values.values()}) > 1:
            yield f"{key}: " + ", ".join(f"{value} ({name})" for name, value in values.items())


def _difference(ours: PlainJson, theirs: PlainJson) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Where two mappings differ, as the steps there, and both values; in their order."""
    one, other = (dict(_flat(side)) for side in (ours, theirs))
    for path in (*one, *(path for path in other if path not in one)):
        if one.get(path) != other.get(path):
            yield path, one.get(path), other.get(path)


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, (*path, str(key)))
    else:
        yield path, value


def _machine(provenance: PlainJson) -> dict[str, Any]:
    machine = provenance.get("machine") or {}
    return {key: machine.get(key) for key in ("cpu", "gpu")}


def _without_seeds(section: Any) -> Any:
    return _without(section, SEEDS)


def _without(section: Any, keys: Collection[str]) -> Any:
    return (
        {key: value for key, value in section.items() if key not in keys} if isinstance(section, Mapping) else section
    )
