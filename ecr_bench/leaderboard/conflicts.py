"""What speaks against counting the arms of two runs as one."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ecr_bench.arm import Arm, Role
from ecr_bench.consistency import FIT, HOW_TRAINED, may_be_tuned
from ecr_bench.errors import UserError
from ecr_bench.methods.registry import default_options
from ecr_bench.metrics.registry import AGAINST_TEACHER, ASPECTS
from ecr_bench.results.claim_settings import (
    RATE,
    STAGES,
    as_path,
    asks_teacher,
    by_path,
    chosen_for,
    decides,
    effective,
    own_settings,
    reads,
    setting_of,
    value_at,
)
from ecr_bench.results.filled import filled_section
from ecr_bench.yaml_files import CHOOSERS

PlainJson = Mapping[str, Any]
Differing = tuple[tuple[str, ...], Any, Any]
"""The steps of a dotted key, and two values."""

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
LEARNED_FROM = "tuned for what is learned from"
"""In place of a section: what is tuned for the plain arms that others learn from."""


def settings_of(arm: Arm, experiment: PlainJson) -> dict[str, Any]:
    """What an arm's numbers depend on in its experiment, as plain JSON, but for seeds.

    UserError where a section is not there: an older version kept of a board of several runs only what all share.
    """
    sections = SHARED if arm.role is Role.PLAIN and not arm.modifiers else (*SHARED, *OF_ANCHORS)
    needed = (*sections, "sizes", "options", *(() if "cells" in experiment else ("tuned",)))
    lost = next((name for name in needed if name not in experiment), None)
    if lost is not None:
        raise UserError(f"{arm}: its {lost} settings are not known: of a board of several runs merge the runs instead")
    whole = effective(arm, experiment)
    found = {name: _without(whole[name], SEEDS) for name in sections}
    distils = ("distill",) if setting_of(arm, experiment, "pretrain.distill") else ()
    options = {
        name: whole["options"].get(name, default_options(name))
        for name in dict.fromkeys((arm.method, *arm.modifiers, *distils))
    }
    own = [str(value) for _, value in arm.settings]
    named = json.dumps([found, options]) + "".join(own)
    learned_from = [name for name in whole["sizes"] if json.dumps(name) in named or name in own]
    return {
        **found,
        "size": _shape(whole, arm.size),
        "other sizes": {name: _plain(experiment, name) for name in learned_from},
        "options": options,
    }


def _plain(experiment: PlainJson, size: str) -> dict[str, Any]:
    """How the plain model of a size is trained that others learn from."""
    whole = effective(Arm("finetune", size), experiment)
    return {"size": _shape(whole, size), **{name: _without(whole[name], SEEDS) for name in STAGES}}


def _shape(whole: PlainJson, size: str) -> Any:
    """A size but for how it fits a machine, and its learning rate, which is in the stages' (``effective``)."""
    return _without((whole.get("sizes") or {}).get(size), FIT | {RATE})


def incomparable(parts: Iterable[tuple[Iterable[str], Iterable[PlainJson]]]) -> dict[str, set[str]]:
    """Section in which experiments differ -> metrics that can then not be compared.

    ``parts``: metrics that were measured, and the experiments that they were measured in.
    """
    known = [(set(metrics), list(experiments)) for metrics, experiments in parts]
    result = {}
    for section, concerned in OF_MEASURES.items():
        told = [one for metrics, experiments in known if metrics & concerned for one in experiments]
        values = [_without(filled_section(section, one.get(section)), UNMEASURED) for one in told]
        if any(value is None or value != values[0] for value in values[1:]):
            result[section] = set(concerned)
    return result


def conflicts(arm: Arm, ours: PlainJson, theirs: PlainJson) -> Iterator[Differing]:
    """The settings in which an arm of this name differs between two experiments.

    UserError as ``settings_of``.
    """
    yield from _difference(*(settings_of(arm, experiment) for experiment in (ours, theirs)))


def unlike(one: Arm, other: Arm, ours: PlainJson, theirs: PlainJson) -> Iterator[Differing]:
    """The settings that two arms both read, and would share in one experiment, in which they were run otherwise.

    One experiment can give an arm settings of its own, which its name then tells, and what may be tuned for it: these
    say nothing against comparing two. Sections that one of the experiments does not tell are not compared
    (``not_told``).
    """
    both, wholes = (one, other), (effective(one, ours), effective(other, theirs))
    # an arm may learn from whom it says itself; what that model is concerns the other only if it learns from it too
    learned = [name for name in _learned_from(both, wholes[0]) if name in _learned_from(both, wholes[1])]
    parts = [name for name in _parts(both, wholes[0]) if name in _parts(both, wholes[1])]
    tuned = {plain: _tuned(plain, wholes) for plain in (Arm("finetune", name) for name in learned)}
    here, there = (_for_both(both, whole, tuned, parts) for whole in wholes)
    for path, mine, yours in _difference(here, there):
        told = all(path[0] in run or path[0] == LEARNED_FROM for run in (ours, theirs))
        if told and not any(_own_choice(arm, run, path) for arm, run in ((one, ours), (other, theirs))):
            yield path, mine, yours


def not_told(experiment: PlainJson) -> list[str]:
    """Sections that an experiment does not tell and that ``unlike`` can then not compare."""
    return [name for name in (*SHARED, *OF_ANCHORS, "sizes", "options") if name not in experiment]


def _own_choice(arm: Arm, experiment: PlainJson, path: tuple[str, ...]) -> bool:
    """Whether the value is the arm's own, or one that may be tuned for it."""
    own, section = own_settings(arm), path[0]
    if section in CHOOSERS and path[1] == "options" and (section, CHOOSERS[section]) in own:
        return True  # another owner, with options of its own
    tuned = map(by_path, chosen_for(arm, experiment))
    allowed = may_be_tuned(".".join(path), [arm.size])
    return decides(own, path) or (allowed and any(decides(chosen, path) for chosen in tuned))


def _for_both(
    both: tuple[Arm, Arm], whole: PlainJson, learned_from: Mapping[Arm, Iterable[str]], parts: Iterable[str]
) -> dict[str, Any]:
    """What one experiment would give two arms alike, of the ``whole`` that one of them had: shared sections, the size
    that both are of, the plain arms that both learn from, with the keys that are tuned for these, options of the parts
    that both are made of."""
    found: dict[str, Any] = {}
    for name in (*SHARED, *OF_ANCHORS):
        if name in whole:
            _keep_read(found, name, _without(whole[name], SEEDS | HOW_TRAINED), both)
    own = {both[0].size} & {both[1].size} if all(reads(one, ("sizes",)) for one in both) else set()
    found["sizes"] = {
        **{name: _shape(whole, name) for name in own},
        **{plain.size: _without((whole.get("sizes") or {}).get(plain.size), FIT) for plain in learned_from},
    }
    found[LEARNED_FROM] = {
        str(plain): {key: value_at(effective(plain, whole), as_path(key)) for key in keys}
        for plain, keys in learned_from.items()
    }
    found["options"] = {name: (whole.get("options") or {}).get(name, default_options(name)) for name in parts}
    return found


def _tuned(plain: Arm, wholes: Iterable[PlainJson]) -> list[str]:
    """Keys that one of the experiments tunes for an arm, but for how training fits a machine."""
    keys = (key for whole in wholes for chosen in chosen_for(plain, whole) for key in chosen)
    return [key for key in dict.fromkeys(keys) if not FIT & set(as_path(key)[2:3])]


def _keep_read(found: dict[str, Any], name: str, section: Any, both: tuple[Arm, Arm]) -> None:
    """Put into ``found`` what of a section both arms read."""
    if not isinstance(section, Mapping):
        if all(reads(arm, (name,)) for arm in both):
            found[name] = section
        return
    read = {key: value for key, value in section.items() if all(reads(arm, (name, key)) for arm in both)}
    if read:
        found[name] = read


def _parts(both: tuple[Arm, Arm], whole: PlainJson) -> list[str]:
    """Methods and modifiers whose options both read; ``distill`` has a part in pre-training as well."""
    named = set.intersection(*({arm.method, *arm.modifiers} for arm in both))
    return sorted(named | ({"distill"} if (whole.get("pretrain") or {}).get("distill") else set()))


def _learned_from(both: tuple[Arm, Arm], whole: PlainJson) -> list[str]:
    """Names of the sizes that both learn from."""
    named = [(whole.get("pretrain") or {}).get("distill")]
    if all("distill" in arm.modifiers for arm in both):
        named.append((whole.get("options") or {}).get("distill", default_options("distill")).get("size"))
    if all(map(asks_teacher, both)):
        named.append(((whole.get("teacher") or {}).get("options") or {}).get("size"))
    return list(dict.fromkeys(name for name in named if name and isinstance(name, str)))


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


def _difference(ours: PlainJson, theirs: PlainJson) -> Iterator[Differing]:
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


def _without(section: Any, keys: Collection[str]) -> Any:
    return (
        {key: value for key, value in section.items() if key not in keys} if isinstance(section, Mapping) else section
    )
