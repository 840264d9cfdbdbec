"""A training of made-up items, a student's recipe and its batches, for distillation and relational losses."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from ecr_bench.config import ControlTokensConfig, SizeConfig
from ecr_bench.data.cutting import cut_texts
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import create_model
from ecr_bench.methods.recipe import Recipe
from ecr_bench.types import Item

LARGER = SizeConfig(hidden_size=48, layers=1, heads=2, intermediate_size=64, max_length=64)


def save_larger_model(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """A model to distil from, with its tokenizer."""
    teacher = create_model(LARGER, tokenizer, seed=3)
    with torch.no_grad():  # a fresh model says next to nothing
        teacher.get_input_embeddings().weight.mul_(20)
    teacher.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def distilled(method: str = "finetune", **options) -> Recipe:
    return Recipe.of(method, ["distill"], {"distill": options})


def make_training(tokenizer, sentences, anchors_and_projection, folders=None) -> Training:
    anchors, projection = anchors_and_projection
    control = ControlTokensConfig(count=2)
    given = Ingredients(tokenizer, control, ("en",), 8, 1, hidden_size=32, anchors=anchors, projection=projection)
    items = [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", ("red", "blue lamp"), i % 2)
        for i, text in enumerate(sentences[:40])
    ]
    texts = cut_texts(tokenizer, [(text, "en") for text in sentences[40:60]], 0)
    return Training(given, Conditioner(given.tokenizer), items, texts, 64, 0, {}, folders or {})


def batches_of(method, training, batch_size=12):
    conditioner = method.conditioner(training.given)
    encoded = encode_items(conditioner, training.items, 64), encode_texts(conditioner, training.texts, 64)
    data = ExamplesDataModule(Mixture(*encoded, 0.25), [], training.given.tokenizer.pad_token_id, batch_size, 6, 0)
    return conditioner, list(data.train_dataloader())


def quiet(module):
    module.log = lambda *args, **kwargs: None
    return module
