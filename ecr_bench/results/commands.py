"""The command that repeats one arm of a board."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml
from pydantic import ValidationError

from ecr_bench.arm import Arm
from ecr_bench.config import CellSpec, Experiment, load
from ecr_bench.errors import UserError
from ecr_bench.methods.former import modern_experiment
from ecr_bench.methods.recipe import arms_of
from ecr_bench.methods.registry import METHODS
from ecr_bench.names import LONGEST_NAME, file_name
from ecr_bench.results.schema import Board


def arm_commands(board: Board) -> dict[Arm, str]:
    """Arm -> one shell command. It runs under a name of its own, so that the board it came from is not
    overwritten; in the same ``--out`` folder finished stages are reused. Empty without an experiment in the board."""
    given = board.provenance.get("experiment")
    if not isinstance(given, dict) or not given.get("cells"):
        return {}
    experiment = modern_experiment(given)
    start = _start(experiment)
    entries: dict[Arm, list[dict[str, Any]]] = {}
    for spec in experiment["cells"]:
        written = {key: value for key, value in spec.items() if value}
        for arm in _arms(spec, experiment):
            entries.setdefault(arm, []).append({**written, "sizes": [arm.size], "seeds": spec.get("seeds", [0])})
    return {arm: _command(start, experiment["name"], arm, cells) for arm, cells in entries.items()}


def _arms(spec: dict[str, Any], experiment: dict[str, Any]) -> list[Arm]:
    """The arms of an entry of ``cells``; of a plugin that is not loaded, as far as its name and ``set`` tell."""
    try:
        return arms_of(CellSpec.model_validate(spec), Experiment.model_validate(experiment))
    except (UserError, ValidationError):
        return [Arm.of(spec["method"], size, spec.get("set")) for size in spec.get("sizes", ())]


def _command(start: list[str], name: str, arm: Arm, cells: list[dict[str, Any]]) -> str:
    own = re.sub(r"[^A-Za-z0-9._]+", "-", f"{name}-{arm}").strip("-")
    own = own if len(own) <= LONGEST_NAME else file_name(own, LONGEST_NAME - 9)  # with a hash of all of it
    words = [*start, f"name={own}", f"cells={_flow(cells)}"]
    plugin = "" if _ships(cells[0]["method"]) else " --plugin FILE.py"
    return shlex.join(words) + plugin


def _flow(value: Any) -> str:
    """YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")


def _start(experiment: dict[str, Any]) -> list[str]:
    """``ecr-bench run quick --set`` and what this run changed; a file name for an experiment that is not shipped."""
    try:
        shipped = load(experiment["name"]).model_dump(mode="json")
    except UserError:
        return ["ecr-bench", "run", f"{experiment['name']}.yaml", "--set"]
    changed = _changes(shipped, {k: v for k, v in experiment.items() if k in shipped and k not in ("name", "cells")})
    return ["ecr-bench", "run", experiment["name"], "--set", *(f"{key}={_flow(value)}" for key, value in changed)]


def _changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys of ``new`` whose values differ. Settings that ``new`` does not know keep their defaults; a mapping
    with keys that ``old`` lacks is given whole."""
    result: list[tuple[str, Any]] = []
    for key, value in new.items():
        before: Any = old.get(key)
        if value == before:
            continue
        both = isinstance(value, dict) and isinstance(before, dict)
        if both and key != "options" and value.keys() <= before.keys():
            result += _changes(before, value, f"{prefix}{key}.")
        else:
            result.append((prefix + key, value))
    return result


def _ships(method: str) -> bool:
    """Whether the method comes with the package rather than from a plugin."""
    entry = METHODS.entries.get(method)
    home = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return home.startswith("ecr_bench.")
