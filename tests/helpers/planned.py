"""A plan with every kind of stage, and what differs between two of its like."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from ecr_bench.config import Experiment, load
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.stages.stage import Stage

CELLS = [
    {"method": "finetune", "sizes": ["1x"]},
    {"method": "ecr", "sizes": ["1x"]},
    {"method": "oracle", "sizes": ["1x"]},
    {"method": "teacher-probe", "sizes": ["1x"]},
    {"method": "ecr", "with": ["refresh"], "sizes": ["1x"]},
    {"method": "finetune", "with": [{"distill": {"cache_top_k": 4}}], "sizes": ["1x"]},
]


@functools.cache
def experiment() -> Experiment:
    """Every kind of stage; two sizes, of which the larger is only distilled."""
    return load("tiny").with_overrides({"cells": CELLS, "precisions": ["fp32"], "projection.kind": "hidden"})


Stages = dict[tuple[str, str], Stage[Any]]


def laid_out(exp: Experiment | None = None) -> Stages:
    """(kind, label) -> stage."""
    return named(make_plan(exp or experiment()))


def named(plan: Plan) -> Stages:
    stages = {(stage.kind, stage.label): stage for stage in plan.stages.values()}
    assert len(stages) == len(plan.stages)
    assert all(stage.id for stage in stages.values())
    return stages


def changed(before: Stages, after: Stages) -> set[tuple[str, str]]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name].id != after[name].id}


def with_what_rests_on(stages: Stages, names: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """``names`` and all that have one of them among their inputs, directly or not."""
    found = set(names)
    ids = {stage.id: name for name, stage in stages.items()}
    while more := {
        name
        for name, stage in stages.items()
        if name not in found and any(ids[i] in found for i in stage.inputs.values())
    }:
        found |= more
    return found


def kinds(names: Iterable[tuple[str, str]]) -> set[str]:
    return {kind for kind, _ in names}


def own_changes(before: Stages, after: Stages) -> set[tuple[str, str]]:
    return {name for name in before if before[name].identity.settings != after[name].identity.settings}
