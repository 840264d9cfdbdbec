"""A bundle among the tools that people have: batches, streams, pipelines, with the control tokens of each prompt."""

from __future__ import annotations

import pytest
import torch
from transformers import pipeline

from ecr_bench.bundle.export import export
from ecr_bench.bundle.use import open_bundle
from ecr_bench.errors import UserError
from ecr_bench.types import Prompt
from tests.helpers.tiny_models import run_here

pytestmark = pytest.mark.slow

TEXTS = ["alarmde3 lampde1", "lampen2", "alarmen0 alarmde3 lampde1 doorde2 lampen2"]
CELLS = "cells=[{method: finetune}, {method: finetune, sizes: [3x]}, {method: ecr}, {method: soft-cue}]"


@pytest.fixture(scope="module")
def bundles(tiny_folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    models = [f"sizes.1x.model={tiny_folders['qwen2']}", f"sizes.3x.model={tiny_folders['qwen2 3x']}"]
    run_here("paper-qwen", tiny_folders, out, *models, CELLS)
    cells = ("finetune-1x-s0", "ecr-1x-s0", "soft-cue-1x-s0")
    for cell in cells:
        export(out, "paper-qwen", cell, out / "bundles" / cell, "fp32")
    return {cell: open_bundle(out / "bundles" / cell) for cell in cells}


@pytest.fixture(params=["finetune-1x-s0", "ecr-1x-s0", "soft-cue-1x-s0"])
def bundle(bundles, request):
    return bundles[request.param]


def test_a_batch_says_what_each_text_says_alone(bundle):
    assert bundle.generate(TEXTS, 6) == [bundle.generate(text, 6)[0] for text in TEXTS]


def test_a_stream_says_the_same_in_pieces(bundle):
    assert "".join(bundle.stream(TEXTS[0], 6)) == bundle.generate(TEXTS[0], 6)[0]
    stream = bundle.stream(TEXTS[0], 30)
    next(stream, None)
    stream.close()


def test_a_pipeline_says_the_same(bundle):
    pipe = pipeline("text-generation", model=bundle.model, tokenizer=bundle.tokenizer)
    (found,) = pipe(TEXTS[0], max_new_tokens=6, do_sample=False, return_full_text=False)
    assert found["generated_text"] == bundle.generate(TEXTS[0], 6)[0]


def test_the_tokenizer_gives_the_ids_that_scoring_gives(bundles):
    bundle = bundles["ecr-1x-s0"]
    conditioner = bundle.lm.conditioner
    wanted = [found.ids for found in conditioner.encode([Prompt(text, text) for text in TEXTS])]
    assert bundle.tokenizer(TEXTS)["input_ids"] == wanted
    assert bundle.tokenizer(TEXTS[0])["input_ids"] == wanted[0]
    assert bundle.tokenizer(TEXTS[0] + "  ")["input_ids"] == wanted[0]
    batch = bundle.tokenizer(TEXTS, padding=True, return_tensors="pt")
    for row, mask, ids in zip(batch["input_ids"], batch["attention_mask"], wanted, strict=True):
        assert row[mask.bool()].tolist() == ids and mask.tolist() == sorted(mask.tolist())
    short = bundle.tokenizer("alarmde3 " * 400, truncation=True, max_length=40)["input_ids"]
    assert len(short) == 40 and sum(i >= conditioner.tokens.first_id for i in short) == conditioner.count
    assert conditioner.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"] != wanted[0]  # its own is untouched


def test_control_tokens_are_never_said(bundles):
    bundle = bundles["ecr-1x-s0"]
    tokens, head = bundle.lm.conditioner.tokens, bundle.model.get_output_embeddings().weight
    before = head.detach().clone()
    with torch.no_grad():  # make them the most likely by far
        head[tokens.first_id : tokens.first_id + tokens.size] *= 50
    try:
        inputs = bundle.tokenizer(TEXTS, padding=True, return_tensors="pt")
        found = bundle.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        assert (found[:, inputs["input_ids"].shape[1] :] < len(bundle.tokenizer)).all()
    finally:
        with torch.no_grad():
            head.copy_(before)


@pytest.mark.parametrize("texts", [[], [" "], ["x", ""]])
def test_nothing_to_continue_is_one_line(bundles, texts):
    with pytest.raises(UserError, match="must not be empty"):
        bundles["ecr-1x-s0"].generate(texts)
