"""Geometry as a loss: the pattern of a cue's projection over the anchors."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.config import FinetuneConfig
from ecr_bench.fast.labelled import hidden_states
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.teacher_logits import plain_rows
from tests.helpers.distillation import batches_of, make_training, quiet


def test_relational_keeps_the_pattern_of_the_projection(model, tokenizer, sentences, anchors_and_projection):
    recipe = Recipe.of("relational")
    training = make_training(tokenizer, sentences, anchors_and_projection)
    module = quiet(recipe.module(model, FinetuneConfig(steps=60, learning_rate=1e-2)))
    module.prepare(training)
    conditioner, batches = batches_of(recipe, training)
    assert conditioner.count == 0
    optimiser = module.configure_optimizers()["optimizer"]

    def relation(batch):
        return module.relation(hidden_states(model, batch["input_ids"]), batch["rows"])

    first = relation(batches[0]).item()
    for step in range(60):
        optimiser.zero_grad()
        module.loss(batches[step % 6]).backward()
        optimiser.step()
    assert relation(batches[0]).item() < 0.3 * first
    assert all(p.requires_grad for p in module.relation.head.parameters())


def test_relational_sees_the_cue_and_nothing_after_it(model, tokenizer, sentences, anchors_and_projection):
    """The loss of a row does not change with its question or answer, but does with its text."""
    recipe = Recipe.of("relational")
    training = make_training(tokenizer, sentences, anchors_and_projection)
    module = quiet(recipe.module(model, FinetuneConfig()))
    module.prepare(training)
    rows = plain_rows(tokenizer, training.items, training.texts, 64)
    for index in (0, 45):
        ids, end = torch.tensor([rows[index].ids]), int(module.relation.cues.ends[index])
        cue = training.items[0].text if index == 0 else training.texts[5].text[: training.texts[5].cut]
        assert tokenizer.decode(ids[0, 1:end]) == cue

        def relation(at: int) -> float:
            changed = ids.clone()  # noqa: B023
            changed[0, at] = (changed[0, at] + 7) % 300
            return module.relation(hidden_states(model, changed), torch.tensor([index])).item()  # noqa: B023

        same = module.relation(hidden_states(model, ids), torch.tensor([index])).item()
        assert relation(end) == pytest.approx(same, abs=1e-6) and relation(end - 1) != pytest.approx(same, abs=1e-6)
