"""Two experiments differ for an arm exactly where the plan trains it otherwise: identities of stages decide."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from ecr_bench.arm import Arm
from ecr_bench.config import load, parse
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import conflicts, unlike
from ecr_bench.methods.registry import METHODS
from ecr_bench.runner.plan import make_plan

TINY = load("tiny").model_dump(mode="json")
TINY["geometry"]["measure"] = False
SPECS: list[dict[str, Any]] = [
    *({"method": name} for name in METHODS),
    {"method": "finetune", "with": ["distill"]},
    {"method": "ecr", "with": ["distill"]},
    {"method": "finetune", "with": ["stand-in"]},
    {"method": "ecr", "with": ["stand-in"]},
    {"method": "random", "with": ["lora"]},
]
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "taught by the plain 3x": {"teacher": {"name": "checkpoint", "rows": 400, "options": {"size": "3x"}}},
    "taught by its base": {"teacher": {"name": "checkpoint", "rows": 400, "options": {"size": "3x", "state": "base"}}},
    "distilled in pre-training": {"pretrain": {**TINY["pretrain"], "distill": "3x"}},
    "projected from hidden states": {"projection": {"kind": "hidden", "options": {}}},
    "tokens from pre-training on": {"control_tokens": {**TINY["control_tokens"], "from": "pretraining"}},
}
CHANGES: dict[str, Any] = {
    "corpus.rows": 2000, "seen_languages": ["en"], "tokenizer.vocab_size": 900, "teacher.rows": 300,
    "anchors.k": 8, "anchors.centre": False, "control_tokens.count": 1, "control_tokens.init_std": 0.1,
    "sizes.1x.hidden_size": 32, "sizes.1x.learning_rate": 0.1, "sizes.1x.accumulate": 2, "sizes.3x.hidden_size": 256,
    "sizes.3x.learning_rate": 0.1, "pretrain.steps": 8, "pretrain.batch_size": 8, "pretrain.learning_rate": 0.1,
    "pretrain.distill": "3x", "finetune.steps": 8, "finetune.learning_rate": 0.1, "finetune.items": 32,
    "finetune.texts": "whole", "scoring.items": 5, "geometry.layer": 0, "options.distill.weight": 0.9,
    "options.distill.size": "1x", "options.distill.cache_top_k": 4, "options.stand-in.by": "vector",
    "options.lora.rank": 3,
}  # fmt: skip
NO_MATTER = {"sizes.1x.accumulate", "scoring.items", "geometry.layer"}
"""What fits a machine, what test items are (merges compare these themselves), and what is measured beside."""
PROJECTED = {"relational", "teacher-init", "teacher-probe"}
"""Their stages name codes as well as the projection, of which alone they are made."""

Planned = tuple[Arm, str, dict[str, Any]]
"""An arm, the identity of what it is trained by, and its experiment."""


def planned(experiment: dict[str, Any], spec: dict[str, Any]) -> Planned | None:
    """None where this cannot be planned, which is said in one line."""
    try:
        found = parse({**copy.deepcopy(experiment), "cells": [{**spec, "sizes": ["1x"]}]}, "x")
        (cell,) = make_plan(found).cells
    except UserError:
        return None
    # a probe is fitted on items and projection, but its stage is told of a model that it has not
    identity = cell.train if METHODS.get(cell.arm.method).trains_model else f"{cell.anchors} {cell.items}"
    return cell.arm, identity, found.model_dump(mode="json")


def changed(experiment: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(experiment)
    *above, last = dotted.split(".")
    node = found
    for step in above:
        node = node.setdefault(step, {})
    node[last] = value
    return found


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_trains_an_arm_otherwise_is_a_conflict_and_nothing_else(variant: str) -> None:
    usual = {**TINY, **VARIANTS[variant]}
    before = {str(spec): planned(usual, spec) for spec in SPECS}
    assert sum(one is not None for one in before.values()) > len(SPECS) / 2
    wrong = []
    for (key, value), spec in itertools.product(CHANGES.items(), SPECS):
        mine, yours = before[str(spec)], planned(changed(usual, key, value), spec)
        if mine is None or yours is None or mine[0] != yours[0]:
            continue
        found = [".".join(path) for path, *_ in conflicts(mine[0], mine[2], yours[2])]
        of_codes = key in ("anchors.k", "control_tokens.count", "control_tokens.init_std")
        other = mine[1] != yours[1] and key not in NO_MATTER and not (of_codes and spec["method"] in PROJECTED)
        if bool(found) != other:
            wrong.append((key, str(mine[0]), found))
    assert wrong == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_arms_of_one_experiment_may_be_compared(variant: str) -> None:
    own = {"method": "ecr", "set": {"teacher.name": "checkpoint", "teacher.options": {"size": "3x", "state": "base"}}}
    specs = [*SPECS, own, {"method": "ecr", "set": {"pretrain.distill": "3x"}}]
    arms = [one for one in (planned({**TINY, **VARIANTS[variant]}, spec) for spec in specs) if one]
    wrong = [
        (str(one), str(other), found)
        for (one, _, ours), (other, _, theirs) in itertools.permutations(arms, 2)
        if (found := [".".join(path) for path, *_ in unlike(one, other, ours, theirs)])
    ]
    assert wrong == []
