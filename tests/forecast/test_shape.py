"""What shares a shape costs the same, and nothing that costs is left out of it."""

from __future__ import annotations

from typing import Any

import pytest

from ecr_bench.forecast.shape import Shapes, code_key
from ecr_bench.stages.stage import Stage
from tests.helpers.planned import experiment, kinds, laid_out

Named = dict[tuple[str, str], Stage[Any]]


def shapes_of(stages: Named) -> dict[tuple[str, str], str | None]:
    ids = {stage.id: stage.identity for stage in stages.values()}
    shapes = Shapes(ids.get)
    return {name: shapes.of(stage.identity) for name, stage in stages.items()}


def differing(**overrides: Any) -> set[tuple[str, str]]:
    """Stages of the plan with every kind of stage that ``overrides`` give another shape."""
    before, after = shapes_of(laid_out()), shapes_of(laid_out(experiment().with_overrides(overrides)))
    assert before.keys() == after.keys() and None not in before.values()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    "overrides",
    [
        {"finetune.learning_rate": 0.5, "pretrain.learning_rate": 0.5, "pretrain.seed": 7},
        {"finetune.steps": 900, "pretrain.steps": 800},
        {"scoring.items": 9, "teacher.rows": 300, "anchors.seed": 3},
        {"finetune.weight_decay": 0.5, "pretrain.warmup": 0.5, "control_tokens.init_std": 0.5},
    ],
)
def test_seeds_rates_and_amounts_change_no_shape(overrides):
    assert not differing(**overrides)


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ({"finetune.batch_size": 8}, {"train"}),
        ({"pretrain.batch_size": 8}, {"base"}),
        ({"finetune.optimiser": "adamw"}, {"train"}),
        ({"sizes.1x.hidden_size": 96}, {"base", "train", "score"}),
        ({"sizes.1x.dtype": "bf16"}, {"base", "train"}),
        ({"control_tokens.count": 3}, {"train"}),
        ({"scoring.batch_tokens": 512}, {"score"}),
        ({"corpus.rows": 2000}, {"corpus", "base", "train", "items", "tokenizer"}),
    ],
)
def test_what_costs_changes_shapes(overrides, changed):
    assert changed <= kinds(differing(**overrides))


def test_no_training_at_all_is_another_shape_than_few_steps():
    stage = laid_out()["base", "pre-train base 1x"]
    shapes = Shapes(lambda stage_id: None)
    alone = [
        Stage(
            stage.work,
            "",
            stage.settings.model_copy(update={"pretrain": pretrain}),
            {"corpus": "c/1", "tokenizer": "t/1"},
        )
        for pretrain in (stage.settings.pretrain, stage.settings.pretrain.model_copy(update={"steps": 0}))
    ]
    assert shapes.of(alone[0].identity) is None  # its inputs are not known
    known = {one.id: one.identity for one in laid_out().values()}
    corpus, tokenizer = (stage.inputs[role] for role in ("corpus", "tokenizer"))
    some, none = (
        Shapes(known.get).of(Stage(one.work, "", one.settings, {"corpus": corpus, "tokenizer": tokenizer}).identity)
        for one in alone
    )
    assert some != none


def test_units_are_steps_items_and_rows():
    stages = laid_out()
    shapes = Shapes({stage.id: stage.identity for stage in stages.values()}.get)
    units = {kind: shapes.units(stage.identity) for (kind, _), stage in stages.items()}
    tiny = experiment()
    assert (units["train"], units["base"]) == (tiny.finetune.steps, tiny.pretrain.steps)
    assert units["score"] == units["items"] == tiny.scoring.items
    assert units["anchors"] == units["translations"] == tiny.teacher.rows
    assert units["corpus"] == units["geometry"] == 1


def test_code_is_told_apart_by_files_and_packages():
    stages = laid_out()
    one, other = stages["train", "train finetune-1x seed 0"], stages["corpus", "corpus intents"]
    assert code_key(one.identity) == code_key(one.identity) != code_key(other.identity)
