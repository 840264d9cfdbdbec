"""ecr+refresh: the projection follows the model, and every row's codes follow the projection."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.config import ControlTokensConfig, FinetuneConfig, ProjectionConfig, load
from ecr_bench.data.encode import encode_items
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.ecr.targets import load_targets, save_targets
from ecr_bench.errors import UserError
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.plan import make_plan
from ecr_bench.stages.fitting import fit
from ecr_bench.types import Item

STEPS = 8


def refreshed(times: int) -> Recipe:
    return Recipe.of("ecr", ["refresh"], {"refresh": {"times": times}})


@pytest.fixture
def folder(tmp_path, tokenizer, sentences, anchors_and_projection):
    """An anchors stage of a hidden projection: the targets are what the toy projection says."""
    _, toy = anchors_and_projection
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    save_targets(tmp_path / "targets.safetensors", ids, toy(ids))
    return tmp_path


def make(recipe, model, tokenizer, sentences, anchors_and_projection, folder):
    anchors, _ = anchors_and_projection
    config = ProjectionConfig(kind="hidden", options={"layer": -1})
    ids, targets = load_targets(folder / "targets.safetensors")
    projection = fit_projection(config, ids, targets, len(tokenizer), model, 0)
    given = Ingredients(tokenizer, ControlTokensConfig(count=2), ("en",), 8, 1, 32, anchors, projection)
    conditioner = recipe.conditioner(given)
    conditioner.tokens.add_to(model, 0.02, seed=0)
    items = [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", ("red", "blue lamp"), i % 2)
        for i, text in enumerate(sentences[:32])
    ]
    settings = FinetuneConfig(steps=STEPS, batch_size=8, learning_rate=0.02)
    module = recipe.module(model, settings)
    sections = {"projection": config.model_dump(mode="json")}
    module.prepare(Training(given, conditioner, items, [], 64, 0, sections, {"anchors": folder}))

    def encode(arm):
        return encode_items(arm, items, 64)

    rows, pad = encode(conditioner), tokenizer.pad_token_id
    variations = module.variation(encode), module.validation_variation(encode)
    data = ExamplesDataModule(Mixture(rows, [], 0.0), rows, pad, 8, STEPS, 0, *variations)
    return module, data, conditioner, items, settings


def train(made, folder):
    module, data, conditioner, items, settings = made
    folder.mkdir()
    fit(module, data, settings, 0, folder, lambda *_: None)
    return module, data, conditioner, items


def test_codes_follow_the_model_in_training_and_validation(folder, model, tokenizer, sentences, anchors_and_projection):
    made = make(refreshed(1), model, tokenizer, sentences, anchors_and_projection, folder)
    before = encode_items(made[2], made[3], 64)
    old = made[2].source.projection
    module, data, conditioner, items = train(made, folder / "fit")
    after = encode_items(conditioner, items, 64)
    assert conditioner.source.projection is not old
    assert [row.ids for row in before] != [row.ids for row in after]
    pad = tokenizer.pad_token_id
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            for index, ids in zip(batch["rows"].tolist(), batch["input_ids"].tolist(), strict=True):
                assert [i for i in ids if i != pad] == after[index].ids[:-1]
    (refresh,) = module.recipe.modifiers
    # the projection is that of the model half way, which went on learning
    now = fit_projection(refresh.projection, refresh.token_ids, refresh.targets, len(tokenizer), module.model, 0)
    assert not torch.equal(now.tensors["weight"], conditioner.source.projection.tensors["weight"])


def test_without_refreshes_it_is_ecr_bit_for_bit(folder, size, tokenizer, sentences, anchors_and_projection):
    from ecr_bench.methods.models import create_model

    weights = []
    for recipe, name in ((Recipe.of("ecr"), "plain"), (refreshed(0), "none")):
        made = make(recipe, create_model(size, tokenizer, 0), tokenizer, sentences, anchors_and_projection, folder)
        module, *_ = train(made, folder / name)
        weights.append(module.model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_targets_come_back(tmp_path):
    ids, targets = [[3, 4], [], [5]], torch.randn(3, 4)
    save_targets(tmp_path / "t.safetensors", ids, targets)
    found, vectors = load_targets(tmp_path / "t.safetensors")
    assert found == ids
    torch.testing.assert_close(vectors, targets, rtol=1e-3, atol=1e-3)


def test_a_token_table_is_refused_before_anything_runs():
    experiment = load("tiny").with_overrides({"cells": [{"method": "ecr", "with": ["refresh"]}]})
    with pytest.raises(UserError, match=r"projection\.kind: refresh needs hidden or mlp"):
        make_plan(experiment)
    make_plan(experiment.with_overrides({"projection.kind": "hidden"}))
