"""The experiments of several runs as one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ecr_bench.arm import Arm
from ecr_bench.leaderboard.conflicts import learned_from, parts_of
from ecr_bench.methods.registry import default_options
from ecr_bench.results.claim_settings import modifiers_of
from ecr_bench.results.filled import filled

OF_ARMS = ("name", "cells", "sizes", "options", "tuned")
"""Parts of an experiment that say nothing of an arm they do not name."""

KeyT = TypeVar("KeyT")


def joint_experiment(experiments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first experiment with the cells of all, where they differ in nothing but what is of single arms; else the
    settings that all share, without a grid: a board of these is no experiment that could be run."""
    first, wholes = experiments[0], [filled(one) for one in experiments]  # a default that is said is no other value
    common = {
        key: value
        for key, value in first.items()
        if key not in ("name", "cells") and all(key in one and one[key] == wholes[0][key] for one in wholes)
    }
    alike = all(set(one) <= {*common, *OF_ARMS} and one.get("cells") for one in experiments)
    tuned = _united(map(_tuned_by_arm, experiments))
    parts = [_united(map(used, wholes)) for used in (_sizes_used, _options_used)]
    if not alike or tuned is None or None in parts:
        return common
    chosen = [
        {"method": method, "with": list(modifiers), "sizes": [size], "set": best}
        for (method, modifiers, size), best in tuned.items()
        if best
    ]
    return {
        **common,
        "name": first["name"],
        "sizes": _first(one.get("sizes", {}) for one in experiments) | _first(map(_sizes_used, experiments)),
        "options": _first(
            {name: given for name, given in _options_used(one).items() if name in one.get("options", {})}
            for one in experiments
        ),
        "tuned": chosen,
        "cells": _cells(experiments),
    }


def _united(parts: Iterable[dict[KeyT, Any]]) -> dict[KeyT, Any] | None:
    """The entries of all; None where two have other values for a key."""
    found: dict[KeyT, Any] = {}
    for part in parts:
        if any(found[name] != value for name, value in part.items() if name in found):
            return None
        found |= part
    return found


def _sizes_used(experiment: dict[str, Any]) -> dict[str, Any]:
    """Sizes that its cells name, or that anything else in it does (a teacher, what is distilled)."""
    named = {size for spec in experiment.get("cells", ()) for size in spec["sizes"]}
    others = json.dumps({key: value for key, value in experiment.items() if key not in ("sizes", "cells")})
    sizes = experiment.get("sizes", {})
    return {name: sizes[name] for name in sizes if name in named or json.dumps(name) in others}


def _first(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The entries of all; of two for a key the first."""
    found: dict[str, Any] = {}
    for part in parts:
        found = part | found
    return found


def _options_used(experiment: dict[str, Any]) -> dict[str, Any]:
    """Options of the parts that its arms are made of; of one that is given none those it has by itself."""
    names = (name for arm in _arms(experiment) for name in parts_of(arm, experiment))
    return {name: experiment.get("options", {}).get(name, default_options(name)) for name in dict.fromkeys(names)}


def _tuned_by_arm(experiment: dict[str, Any]) -> dict[tuple[str, tuple[str, ...], str], dict[str, Any]]:
    """What is tuned for each arm that has cells, or that one of these learns from, by method, modifiers and size; empty
    where nothing is."""
    tuned = {
        (entry["method"], tuple(sorted(modifiers_of(entry))), size): entry["set"]
        for entry in experiment.get("tuned", ())
        for size in entry["sizes"]
    }
    arms = list(_arms(experiment))
    own = [(arm.method, tuple(sorted(arm.modifiers)), arm.size) for arm in arms]
    others = [("finetune", (), size) for arm in arms for size in learned_from(arm, experiment)]
    return {arm: tuned.get(arm, {}) for arm in (*own, *others)}


def _arms(experiment: dict[str, Any]) -> Iterator[Arm]:
    """Those of its cells, with all that these set."""
    for spec in experiment.get("cells", ()):
        given = {spec["method"]: spec.get("options") or {}}
        for part in spec.get("with", ()):
            given |= {part: {}} if isinstance(part, str) else part
        beside = {f"options.{name}.{key}": value for name, own in given.items() for key, value in (own or {}).items()}
        for size in spec["sizes"]:
            yield Arm.of(spec["method"], size, {**beside, **spec.get("set", {})}, modifiers=list(modifiers_of(spec)))


def _cells(experiments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The grids of all as one, with each cell once."""
    seen: list[tuple[dict[str, Any], str, int]] = []
    grids: list[dict[str, Any]] = []
    for spec in (spec for one in experiments for spec in one["cells"]):
        rest = {key: value for key, value in spec.items() if key not in ("sizes", "seeds")}
        for size in spec["sizes"]:
            seeds = [seed for seed in spec["seeds"] if (rest, size, seed) not in seen]
            seen += [(rest, size, seed) for seed in seeds]
            if seeds:
                grids.append({**rest, "sizes": [size], "seeds": seeds})
    return grids
