"""Unlabelled texts of other languages in the place of labelled ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ecr_bench.config import ControlTokensConfig, OptimiserConfig
from ecr_bench.data.cutting import whole_texts
from ecr_bench.data.encode import Example, encode_items, encode_texts
from ecr_bench.errors import UserError
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.stand_in import Exchange, nearest
from ecr_bench.stages.ingredients import RecipeReads, RecipeSettings
from ecr_bench.types import Item

WINDOW, CHOICES = 64, ("red", "blue lamp", "in the garden")


def items_of(sentences, grain: str) -> list[Item]:
    return [
        Item(f"{grain}{i}", "intent", grain, str(i), "en", "en", text, "intent:", CHOICES, i % 3)
        for i, text in enumerate(sentences[:12])
    ]


@pytest.fixture
def given(tokenizer, anchors_and_projection) -> Ingredients:
    anchors, projection = anchors_and_projection
    return Ingredients(tokenizer, ControlTokensConfig(count=3), ("en", "xx"), 8, 1, 32, anchors, projection)


def varied(method, given, model, items, texts, count=3, **options):
    """The variation of a recipe with stand-ins, and the rows it varies."""
    recipe = Recipe.of(method, ["stand-in"], {"stand-in": options})
    if not recipe.uses_control_tokens:  # what a plain model is given, anchors or not
        reads = RecipeReads(recipe=RecipeSettings.of(recipe))
        given = dataclasses.replace(given, control_tokens=reads.control_tokens, k=reads.codes.k)
    settings = {"control_tokens": {"count": count}}
    assert recipe.sections == tuple(settings)
    conditioner = recipe.conditioner(given)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, 0.02, seed=0)
    module = recipe.module(model, OptimiserConfig(steps=1, learning_rate=0.01))
    module.prepare(Training(given, conditioner, items, texts, WINDOW, 0, settings, {}))

    def encode(arm):
        return [*encode_items(arm, items, WINDOW), *encode_texts(arm, texts, WINDOW)]

    return module.variation(encode), encode(conditioner), conditioner


def test_the_texts_that_share_most_are_found():
    queries, texts = torch.eye(3), torch.tensor([[0.0, 0.9, 0.1], [0.8, 0.2, 0.0], [0.1, 0.0, 0.7], [0.9, 0.0, 0.2]])
    assert nearest(queries, texts, 1).tolist() == [[3], [0], [2]]
    assert nearest(queries, texts, 2)[0].tolist() == [3, 1]
    assert nearest(queries, texts, 9).shape == (3, 4)


@pytest.mark.parametrize("method", ["finetune", "ecr"])
@pytest.mark.parametrize("by", ["codes", "vector"])
def test_a_coarse_item_is_shown_with_its_twin_in_a_language_without_labels(given, model, sentences, method, by):
    items, fine = items_of(sentences, "coarse"), items_of(sentences, "fine")
    own = [(item.text, "en") for item in items]  # what a labelled language says is no candidate
    texts = whole_texts([*own, *[(text, "xx") for text in sentences[:12]], *[(text, "xx") for text in sentences[20:]]])
    variation, rows, conditioner = varied(method, given, model, [*items, *fine], texts, by=by, share=1.0, nearest=1)
    twins = encode_items(conditioner, [dataclasses.replace(item, lang="xx") for item in items], WINDOW)
    generator = np.random.default_rng(0)
    shown = [variation(index, row, generator) for index, row in enumerate(rows)]
    same = [found.ids == twin.ids for found, twin in zip(shown[:12], twins, strict=True)]
    assert np.mean(same) > 0.6  # another text may have the same codes
    assert all(
        found.ids[found.loss_from :] == twin.ids[twin.loss_from :]
        for found, twin in zip(shown[:12], twins, strict=True)
    )
    assert shown[12:] == rows[12:]  # fine items and texts stay


def test_it_is_exchanged_as_often_as_asked_and_evenly_among_the_nearest():
    group = [Example([0, n], 1, 1) for n in range(4)]
    exchange, row, generator = Exchange({7: group}, 0.3), Example([0, 9], 1, 1), np.random.default_rng(0)
    shown = [exchange(7, row, generator).ids[1] for _ in range(4000)]
    shares = [shown.count(n) / 4000 for n in range(4)]
    assert shown.count(9) / 4000 == pytest.approx(0.7, abs=0.03)
    assert shares == pytest.approx([0.075] * 4, abs=0.02)
    assert exchange(6, row, generator) is row


@pytest.mark.parametrize(
    ("grain", "lang", "missing"), [("fine", "xx", "coarse training item"), ("coarse", "en", "unlabelled text")]
)
def test_nothing_to_exchange_is_said(given, model, sentences, grain, lang, missing):
    texts = whole_texts([(text, lang) for text in sentences[:9]])
    with pytest.raises(UserError, match=f"stand-in: there is no {missing}"):
        varied("ecr", given, model, items_of(sentences, grain), texts)


def test_texts_without_codes_cannot_share_any(given, model, sentences):
    items, texts = items_of(sentences, "coarse"), whole_texts([(text, "xx") for text in sentences[20:]])
    with pytest.raises(UserError, match=r"stand-in: control_tokens\.count is 0.*by: vector"):
        varied("finetune", given, model, items, texts, count=0)
    variation, _, _ = varied("finetune", given, model, items, texts, count=0, by="vector")
    assert variation is not None
