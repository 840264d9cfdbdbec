"""Adapters over a quantised base: what is trained, what is stored, and that it comes back the same."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import bitsandbytes
import pytest
import torch
from transformers import AutoModelForCausalLM

from ecr_bench.config import ControlTokensConfig, OptimiserConfig, load
from ecr_bench.data.encode import encode_items
from ecr_bench.data.module import collate
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.scorers import disk_bytes, open_scorer
from ecr_bench.methods.base import cross_entropy
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import count_parameters
from ecr_bench.methods.recipe import Recipe
from ecr_bench.precision.adapted import has_adapter, load_adapted, quantise_into
from ecr_bench.precision.quantised import same_everywhere
from ecr_bench.runner.plan import make_plan
from ecr_bench.types import Item

ARMS = [(method, base) for method in ("finetune", "ecr") for base in ("int8", "nf4")]
LAYERS = {"int8": bitsandbytes.nn.Linear8bitLt, "nf4": bitsandbytes.nn.Linear4bit}
RANK = 4


def train(arm, model, tokenizer, sentences, anchors_and_projection, folder, embeddings=False):
    """Three steps of ``arm`` (method, what the base is quantised to); returns module, conditioner, batch and losses."""
    method, base = arm
    options = {"rank": RANK, "alpha": 8.0, "embeddings": embeddings, "base": base}
    recipe = Recipe.of(method, ["lora"], {"lora": options})
    anchors, projection = anchors_and_projection
    control = ControlTokensConfig(count=2 if recipe.uses_control_tokens else 0)
    given = Ingredients(tokenizer, control, ("en",), 8, 1, 32, anchors=anchors, projection=projection)
    conditioner = recipe.conditioner(given)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, 0.02, seed=0)
    quantised = quantise_into(folder, model, recipe.base_precision, "cpu")
    module = recipe.module(quantised, OptimiserConfig(steps=3, learning_rate=0.02))
    items = [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", ("red", "blue lamp"), i % 2)
        for i, text in enumerate(sentences[:12])
    ]
    torch.manual_seed(0)
    module.prepare(Training(given, conditioner, items, [], 64, 0, {}, {}))
    batch = collate(encode_items(conditioner, items, 64), tokenizer.pad_token_id)
    optimiser, losses = module.configure_optimizers()["optimizer"], []
    for _ in range(3):
        optimiser.zero_grad()
        loss = cross_entropy(module.model, batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    module.save_model(folder)
    tokenizer.save_pretrained(folder)
    conditioner.save(folder / "conditioner")
    return module, conditioner, batch, losses


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("arm", ARMS)
def test_adapters_train_and_come_back(embeddings, arm, model, tokenizer, sentences, anchors_and_projection, tmp_path):
    dense = count_parameters(model)
    folder = tmp_path / "model"
    module, conditioner, batch, losses = train(
        arm, model, tokenizer, sentences, anchors_and_projection, folder, embeddings
    )
    assert losses[-1] < losses[0]

    trained = {n: p for n, p in module.model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 and p.grad is not None for p in trained.values())
    rows = [p for n, p in trained.items() if "lora_" not in n]
    tokens = conditioner.tokens
    count = len(model.get_input_embeddings().weight) if embeddings else tokens.size if tokens else 0
    assert [tuple(p.shape) for p in rows] == ([(count, 32)] if count else [])
    # per layer: four 32x32, two 32x64 and one 64x32
    lora = 2 * RANK * (4 * (32 + 32) + 3 * (32 + 64))
    assert module.adapter_parameters == lora
    assert count_parameters(model) == dense + (tokens.size * 32 if tokens else 0)

    _, precision = arm
    assert module.recipe.precisions == (precision,)
    loaded = load_adapted(folder)
    assert not loaded.training
    base_layers = [m for m in loaded.modules() if isinstance(m, LAYERS[precision])]
    assert len(base_layers) == 2 * 7
    module.model.eval()
    with torch.no_grad():
        expected, found = (m(batch["input_ids"]).logits for m in (module.model, loaded))
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cpu")
        same_everywhere(plain)
        untrained = plain(batch["input_ids"]).logits
    assert torch.equal(expected, found)
    assert not torch.equal(expected, untrained)
    if tokens and not embeddings:
        start = slice(tokens.first_id, tokens.first_id + tokens.size)
        before = plain.get_input_embeddings().weight
        after = loaded.get_input_embeddings().weight
        assert after.data_ptr() == loaded.get_output_embeddings().weight.data_ptr()
        assert torch.equal(after[: tokens.first_id], before[: tokens.first_id])
        assert not torch.equal(after[start], before[start])


@pytest.mark.parametrize("arm", [("ecr", "int8"), ("finetune", "nf4")])
def test_a_cell_is_scored_with_its_adapter(arm, model, tokenizer, sentences, anchors_and_projection, tmp_path):
    folder = tmp_path / "model"
    train(arm, model, tokenizer, sentences, anchors_and_projection, folder)
    assert has_adapter(folder)
    scorer = open_scorer(folder, arm[1], "cpu", 1024)
    assert isinstance(scorer.lm, EcrLM)
    assert any("lora_A" in n for n, _ in scorer.lm.model.named_parameters())
    assert 0 < scorer.bytes < disk_bytes(folder)
    model.save_pretrained(tmp_path / "dense")
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) < disk_bytes(tmp_path / "dense")


def test_without_its_package_an_arm_is_refused_before_anything_runs(monkeypatch):
    """peft comes with an extra: nobody who trains no adapter needs it."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("ecr_bench.methods.lora.find_spec", lambda name: None if name == "peft" else find_spec(name))
    cells = [{"method": "ecr", "sizes": ["1x"], "with": ["lora"]}]
    with pytest.raises(UserError, match=r"modifier 'lora' needs the package peft: pip install 'ecr-bench\[lora\]'"):
        make_plan(load("tiny").with_overrides({"cells": cells}))
    make_plan(load("tiny"))


@pytest.mark.slow
def test_a_run_without_adapters_never_imports_peft():
    code = "import sys\nimport ecr_bench.evaluation.scorers, ecr_bench.stages.train\nassert 'peft' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
