"""Whether an arm was run as a claim asks: in its experiment as it was for that arm."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from ecr_bench.arm import Arm, Setting, as_setting
from ecr_bench.config import Experiment
from ecr_bench.methods.registry import METHODS, MODIFIERS, default_options
from ecr_bench.nested import has_path, put_at, value_at
from ecr_bench.results.claim_schema import Claim
from ecr_bench.results.filled import filled
from ecr_bench.sizes import RATE, STAGES
from ecr_bench.yaml_files import CHOOSERS, drop_options

Path = tuple[str, ...]
"""The steps of a dotted key."""


class NotTestedError(Exception):
    """Why a run cannot speak to a claim, in words."""

    def __init__(self, message: str, same: float | None = None) -> None:
        super().__init__(message)
        self.same = same
        """The difference where it is the same in every seed, which leaves it without an interval."""


def unmet(claim: Claim, arm: Arm, experiments: Iterable[Mapping[str, Any]]) -> str | None:
    """What the claim requires and ``arm`` was run without in one of its experiments, in words. NotTestedError as
    ``setting_of``."""
    for experiment, (key, wanted) in product(experiments, claim.requires.items()):
        if not _same(given := setting_of(arm, experiment, key), wanted):
            who = "this run" if given == value_at(filled(experiment), as_path(key)) else str(arm)
            return f"it needs {key} = {wanted}, {who} has {given}"
    return None


def _same(given: Any, wanted: Any) -> bool:
    """Whether they are equal; yes is not 1, though Python says so."""
    return as_setting(given) == as_setting(wanted) and isinstance(given, bool) == isinstance(wanted, bool)


def setting_of(arm: Arm, experiment: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key that an arm was run with; None where there is none. Of an option that nobody sets,
    what its owner does by itself.

    NotTestedError where a board of several runs does not share what it depends on.
    """
    path = as_path(dotted)
    for needed in _rests_on(path, arm):
        _check_known(arm, experiment, needed, dotted)
    found = effective(arm, experiment)
    if path[0] == "options" and len(path) > 2 and not has_path(found, path[:3]):
        return value_at(default_options(path[1]), path[2:])
    return value_at(found, path)


def told_apart_by(arm: Arm, control: Arm, experiments: Mapping[Arm, Iterable[Mapping[str, Any]]]) -> str | None:
    """The first setting that one of two arms has of its own, that both read and in which they were run otherwise: what
    the one does then says nothing of the other. None where there is none. ``experiments``: those of each arm."""
    keys = sorted({key for one in (arm, control) for key, _ in one.settings})
    read = (key for key in keys if all(reads(one, as_path(key)) for one in (arm, control)))
    return next((key for key in read if len(_values((arm, control), experiments, key)) > 1), None)


def _values(arms: Iterable[Arm], experiments: Mapping[Arm, Iterable[Mapping[str, Any]]], key: str) -> set[Setting]:
    return {as_setting(setting_of(arm, experiment, key)) for arm in arms for experiment in experiments[arm]}


def fits_anchors(arm: Arm) -> bool:
    """Whether an arm has anchors of the teacher's; of a plugin that is not here it is supposed."""
    return _has_flag(arm, "uses_anchors")


def asks_teacher(arm: Arm) -> bool:
    """Whether what a teacher says reaches an arm; of a plugin that is not here it is supposed."""
    return any(_has_flag(arm, flag) for flag in ("uses_anchors", "uses_teacher", "distils_teacher"))


def _has_flag(arm: Arm, flag: str) -> bool:
    """Whether a part of an arm states that it does so, or is not loaded and may."""
    return any(part is None or bool(getattr(part, flag, False)) for part in _parts(arm))


def _sections(arm: Arm) -> set[str]:
    """Those that its parts, as far as they are loaded, read in addition."""
    return {name for part in _parts(arm) if part is not None for name in part.sections}


def _parts(arm: Arm) -> Iterator[Any]:
    """Classes of its method and modifiers; None for one that is not loaded."""
    for registry, name in ((METHODS, arm.method), *((MODIFIERS, name) for name in arm.modifiers)):
        yield registry.get(name) if name in registry else None


def reads(arm: Arm, path: Path) -> bool:
    """Whether an arm is another one with another value there; that of a method which is not loaded may be."""
    if path[0] == "options":
        return not path[1:] or path[1] in (arm.method, *arm.modifiers)
    if arm.method not in METHODS:
        return True
    kind = METHODS.get(arm.method)
    match path:
        case ("finetune",) | ("finetune", "items"):
            return True  # a probe learns from labelled rows as well
        case ("pretrain" | "finetune" | "sizes", *_):
            return bool(kind.trains_model)
        case ("control_tokens", *_) | ("anchors",) | ("anchors", "k" | "assignment"):
            return bool(kind.uses_control_tokens) or "control_tokens" in _sections(arm)
        case ("anchors" | "projection", *_) | ("teacher", "rows"):
            return fits_anchors(arm)
        case ("teacher", *_):
            return asks_teacher(arm)
    return True


def has_setting(arm: Arm, experiment: Mapping[str, Any], dotted: str) -> bool:
    """Whether the experiment of an arm has the key, as far as it is known."""
    return has_path(effective(arm, experiment), as_path(dotted))


def effective(arm: Arm, experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment as it was for an arm: with what is tuned for it, its own settings on top of that, and the
    learning rate of its size in place of those of the stages, and what nobody set at its default; as far as a board of
    several runs knows it."""
    found, whole = dict(experiment), set(experiment)
    for overrides in (*map(by_path, chosen_for(arm, experiment)), own_settings(arm)):
        found = _with(found, overrides)
        whole |= {path[0] for path in overrides if len(path) == 1}
    # of a section that is not known, what sets a part of it tells no more than that part
    found |= filled({name: value for name, value in found.items() if name in whole})
    rate = value_at(found, ("sizes", arm.size, RATE))
    stages = [name for name in STAGES if isinstance(found.get(name), Mapping)] if rate else []
    return found | {name: {**found[name], RATE: rate} for name in stages}


def tuned_for(arm: Arm, experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the experiment sets for the arms of this method, modifiers and size: dotted keys and values.

    NotTestedError where a board of several runs, which has no cells then, does not share that; a whole experiment
    without is of a version that tuned nothing.
    """
    if not_shared(experiment, "tuned") and "cells" not in experiment:
        raise NotTestedError("its runs differ in what is tuned for an arm")
    return chosen_for(arm, experiment)


def chosen_for(arm: Arm, experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As ``tuned_for``, as far as it is known."""
    return [chosen["set"] for chosen in experiment.get("tuned", ()) if _is_for(arm, chosen)]


def _is_for(arm: Arm, chosen: Mapping[str, Any]) -> bool:
    named = chosen["method"] == arm.method and set(modifiers_of(chosen)) == set(arm.modifiers)
    return named and arm.size in chosen["sizes"]


def modifiers_of(spec: Mapping[str, Any]) -> Iterator[str]:
    """Names of what a cell, or what is tuned, has beside its method; a mapping gives options beside the name."""
    for part in spec.get("with", ()):
        yield from [part] if isinstance(part, str) else part


def not_shared(experiment: Mapping[str, Any], dotted: str) -> bool:
    """Whether every experiment has the section and this one, which several runs have in common, has not."""
    section = dotted.partition(".")[0]
    return bool(experiment) and section not in experiment and section in Experiment.model_fields


def as_path(dotted: str) -> Path:
    """The steps of a dotted key. An option may be named as an arm has it, by its owner: ``lora.rank``."""
    steps = tuple(dotted.split("."))
    return steps if len(steps) == 1 or steps[0] in Experiment.model_fields else ("options", *steps)


def _rests_on(path: Path, arm: Arm) -> Iterator[Path]:
    """What must be known to tell a key's value for an arm."""
    yield path
    if path[0] in STAGES and path[1:] in ((), (RATE,)):
        yield ("sizes", arm.size, RATE)


def _check_known(arm: Arm, experiment: Mapping[str, Any], path: Path, asked: str) -> None:
    """NotTestedError where neither what is set for an arm decides a key nor what the experiments of a board share."""
    if decides(own_settings(arm), path) or any(decides(by_path(chosen), path) for chosen in tuned_for(arm, experiment)):
        return
    if not_shared(experiment, path[0]):
        raise NotTestedError(f"its runs differ in {path[0]}, and it needs {asked}")


def decides(overrides: Mapping[Path, Any], path: Path) -> bool:
    """Whether a key, or one above it, is set."""
    return any(path[: len(key)] == key for key in overrides)


def by_path(overrides: Mapping[str, Any]) -> dict[Path, Any]:
    """Overrides by the steps of their dotted keys."""
    return {as_path(key): value for key, value in overrides.items()}


def own_settings(arm: Arm) -> dict[Path, Any]:
    """An arm's own settings as they were given: it keeps lists and mappings as JSON."""
    return {as_path(key): _thawed(value) for key, value in arm.settings}


def sets(arm: Arm, section: str) -> bool:
    """Whether an arm has something of a section for itself."""
    return any(path[0] == section for path in own_settings(arm))


def _thawed(value: Setting) -> Any:
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _with(experiment: dict[str, Any], overrides: Mapping[Path, Any]) -> dict[str, Any]:
    """A copy with values replaced as ``Experiment.with_overrides`` does it, of whatever keys that version had."""
    found = dict(experiment)
    for section, key in CHOOSERS.items():
        if (section, key) in overrides and isinstance(found.get(section), Mapping):
            found[section] = dict(found[section])
            drop_options(found, section, overrides[section, key])
    for path, value in overrides.items():
        found = put_at(found, path, value)
    return found
