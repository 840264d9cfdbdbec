"""Every combination that is allowed trains, and what is saved is scored as what was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from ecr_bench.config import ControlTokensConfig, FinetuneConfig, ProjectionConfig, SizeConfig
from ecr_bench.data.cutting import cut_texts
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.ecr.targets import save_targets
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.scorers import open_scorer
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import create_model
from ecr_bench.methods.recipe import Recipe
from ecr_bench.precision.adapted import quantise_into
from ecr_bench.stages.fitting import fit
from tests.helpers.items import items_of_texts

STEPS, WINDOW = 6, 64
INT8 = {"lora": {"base": "int8", "rank": 4}}


@pytest.fixture
def folders(tmp_path, tokenizer, sentences, anchors_and_projection):
    """A larger model to learn from, and the targets of the projection."""
    big = SizeConfig(hidden_size=48, layers=1, heads=2, intermediate_size=64, max_length=WINDOW)
    create_model(big, tokenizer, seed=3).save_pretrained(tmp_path / "larger" / "model")
    tokenizer.save_pretrained(tmp_path / "larger" / "model")
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    (tmp_path / "anchors").mkdir()
    save_targets(tmp_path / "anchors" / "targets.safetensors", ids, anchors_and_projection[1](ids))
    return {"larger": tmp_path / "larger", "anchors": tmp_path / "anchors"}


def train(recipe, model, tokenizer, sentences, anchors_and_projection, folders, out):
    """A few steps through the runner's own Trainer; the module and its conditioner, saved to ``out / model``."""
    anchors, projection = anchors_and_projection
    config = ProjectionConfig(kind="hidden")
    if "refresh" in recipe.name:
        ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
        projection = fit_projection(config, ids, projection(ids), len(tokenizer), model, 0)
    control = ControlTokensConfig(count=2)
    pool = torch.randint(8, (5, 2), generator=torch.Generator().manual_seed(0))
    given = Ingredients(tokenizer, control, ("en",), 8, 1, 32, anchors, projection, pool)
    conditioner = recipe.conditioner(given)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, 0.02, seed=0)
    if recipe.base_precision is not None:
        model = quantise_into(out / "model", model, recipe.base_precision, "cpu")
    items, texts = items_of_texts(sentences), cut_texts(tokenizer, [(text, "en") for text in sentences[40:52]], 0)
    finetune = FinetuneConfig(steps=STEPS, batch_size=8, learning_rate=0.02)
    module = recipe.module(model, finetune)
    settings = {"projection": config.model_dump(mode="json")}
    module.prepare(Training(given, conditioner, items, texts, WINDOW, 0, settings, folders))

    def encode(arm):
        return [*encode_items(arm, items, WINDOW), *encode_texts(arm, texts, WINDOW)]

    def held_out(arm):
        return encode_items(arm, items[:8], WINDOW)

    rows = encode(conditioner)
    data = ExamplesDataModule(
        Mixture(rows[: len(items)], rows[len(items) :], 0.25), held_out(conditioner), tokenizer.pad_token_id, 8, STEPS,
        0, module.variation(encode), module.validation_variation(held_out),
    )  # fmt: skip
    stats = fit(module, data, finetune, 0, out, lambda done, total: None)
    module.save_model(out / "model")
    tokenizer.save_pretrained(out / "model")
    conditioner.save(out / "model" / "conditioner")
    return module, conditioner, stats


def scores(lm, items) -> np.ndarray:
    requests = [
        Instance("loglikelihood", {"text": item.text}, (item.prompt, f" {c}"), i, metadata=("ecr_slot_en", n, 1))
        for n, item in enumerate(items)
        for i, c in enumerate(item.choices)
    ]
    return np.array([value for value, _ in lm.loglikelihood(requests)])


@pytest.mark.parametrize(
    ("method", "modifiers", "options"),
    [
        ("relational", ["lora"], {}),
        ("soft-cue", ["dropout"], {"dropout": {"text": 0.4, "tokens": 0.4}}),
        ("soft-cue", ["distill"], {}),
        ("codes-only", ["refresh"], {}),
        ("codes-only", ["lora"], {}),
        ("shuffled", ["dropout", "distill", "lora"], {}),
        ("ecr", ["dropout", "refresh"], {}),
        ("ecr", ["distill", "lora"], INT8),
        ("ecr", ["dropout", "refresh", "distill"], {}),
        ("ecr", ["dropout", "distill", "lora"], {"lora": {"rank": 4}}),
        ("ecr", ["dropout", "lora"], INT8),
    ],
)
def test_what_is_saved_is_what_was_trained(
    method, modifiers, options, model, tokenizer, sentences, anchors_and_projection, folders, tmp_path
):
    recipe = Recipe.of(method, modifiers, options)
    module, conditioner, stats = train(
        recipe, model, tokenizer, sentences, anchors_and_projection, folders, tmp_path / "out"
    )
    assert stats.finite and stats.val_loss > 0
    items = items_of_texts(sentences)
    module.model.eval()
    scorer = open_scorer(tmp_path / "out" / "model", recipe.base_precision or "fp32", "cpu", 1024)
    if recipe.base_precision:  # lm-eval ties weights anew and cannot see through peft's wrapper
        ids = torch.tensor([encode_items(conditioner, items[:1], WINDOW)[0].ids])
        with torch.no_grad():
            found, trained = (m(ids).logits.float().numpy() for m in (scorer.lm.model, module.model))
    else:
        trained = scores(EcrLM(module.model, tokenizer=tokenizer, conditioner=conditioner), items)
        found = scores(scorer.lm, items)
    np.testing.assert_allclose(found, trained, atol=1e-3)
    assert np.ptp(trained) > 1e-2
