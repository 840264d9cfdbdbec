"""Dropout inside a model is one setting: not loading, checkpointing or adapters decide about it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
)

from ecr_bench.config import ControlTokensConfig, FinetuneConfig, PretrainConfig, load
from ecr_bench.data.encode import encode_items
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.errors import UserError
from ecr_bench.methods.base import CausalLMModule, cross_entropy
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import fit_to_machine
from ecr_bench.methods.recipe import Recipe
from ecr_bench.results.notes import _dropout_note
from ecr_bench.runner.plan import make_plan
from ecr_bench.sizes import Fitting
from ecr_bench.stages.fitting import fit
from tests.helpers.architectures import ARCHITECTURES, build
from tests.helpers.items import some_items
from tests.helpers.training import batch, gradients

# in attention, in sums after it, in the layers' own forward, and in all places at once
CONFIGS: dict[str, Any] = {
    "llama": lambda v: LlamaConfig(
        vocab_size=v, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        attention_dropout=0.4, max_position_embeddings=128,
    ),
    "gpt2": lambda v: GPT2Config(
        vocab_size=v, n_embd=32, n_layer=2, n_head=2, n_positions=128, resid_pdrop=0.3, embd_pdrop=0.3, attn_pdrop=0.3
    ),
    "opt": lambda v: OPTConfig(
        vocab_size=v, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=48, word_embed_proj_dim=32,
        dropout=0.4, layerdrop=0.0, max_position_embeddings=128,
    ),
    "falcon": lambda v: FalconConfig(
        vocab_size=v, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, hidden_dropout=0.4,
        attention_dropout=0.4,
    ),
}  # fmt: skip


@pytest.fixture
def folders(tokenizer, tmp_path):
    """Model folders by kind."""
    made = {}
    for kind, config in CONFIGS.items():
        torch.manual_seed(0)
        made[kind] = tmp_path / kind
        AutoModelForCausalLM.from_config(config(len(tokenizer))).save_pretrained(made[kind])
    return made


def train(
    folder,
    tokenizer,
    out,
    method="finetune",
    modifiers=(),
    fitting: Fitting | None = None,
    dropout="none",
    mode=False,
    seed=0,
) -> torch.Tensor:
    """Losses (2,) of two steps through the runner's own Trainer; ``mode``: training mode when it is loaded."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train(mode)
    given = Ingredients(tokenizer, ControlTokensConfig(), ("en",), 8, 1, 32)
    conditioner = Conditioner(tokenizer, ConstantCodes(2, 8), ControlTokens(len(tokenizer), 8), 2)
    conditioner.tokens.add_to(model, 0.02, seed=0)
    fit_to_machine(model, fitting or Fitting())
    finetune = FinetuneConfig(steps=2, batch_size=6, optimiser="adamw", dropout=dropout)
    recipe = Recipe.of(method, modifiers, {"lora": {"rank": 4, "alpha": 8.0}})
    module = recipe.module(model, finetune)
    module.prepare(Training(given, conditioner, some_items(), [], 64, 0, {}, {}))
    rows = encode_items(conditioner, some_items(), 64)
    data = ExamplesDataModule(Mixture(rows, [], 0.0), rows[:2], tokenizer.pad_token_id, 6, 2, 0)
    fit(module, data, finetune, seed, out, lambda done, total: None)
    return load_file(out / "trace.safetensors")["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_without_dropout_only_the_arithmetic_of_adapters_tells_arms_apart(kind, folders, tokenizer, tmp_path):
    ways: dict[str, Any] = {
        "loaded in eval mode": {},
        "built in training mode": {"mode": True},
        "checkpointing": {"fitting": Fitting(checkpointing=True)},
        "parts": {"fitting": Fitting(accumulate=2)},
        "another seed of the draws": {"seed": 5},
    }
    found = {name: train(folders[kind], tokenizer, tmp_path / name, **how) for name, how in ways.items()}
    for name, losses in found.items():
        torch.testing.assert_close(losses, found["loaded in eval mode"], rtol=1e-5, atol=1e-6, msg=name)
    if kind == "llama":  # adapters start at zero: the first loss is the model's own
        for name in ("finetune", "ecr"):
            for fitting in (Fitting(), Fitting(checkpointing=True)):
                losses = train(folders[kind], tokenizer, tmp_path / name, name, ["lora"], fitting)
                assert losses[0].item() == pytest.approx(found["loaded in eval mode"][0].item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_models_own_dropout_is_on_where_it_is_asked_for(kind, folders, tokenizer, tmp_path):
    def losses(name: str, **how: Any) -> torch.Tensor:
        return train(folders[kind], tokenizer, tmp_path / name, dropout="model", **how)

    without = train(folders[kind], tokenizer, tmp_path / "without")
    first = losses("a")
    assert (first - without).abs().min() > 1e-4
    assert torch.equal(first, losses("b", mode=True)) and not torch.equal(first, losses("c", seed=5))
    torch.testing.assert_close(first, losses("d", fitting=Fitting(checkpointing=True)), rtol=1e-5, atol=1e-6)


def test_validation_and_pretraining_follow_the_same_rule(folders, tokenizer, tmp_path):
    """A base model is trained by the same module; validation is without dropout, and training goes on as before."""
    model = AutoModelForCausalLM.from_pretrained(folders["gpt2"], dtype=torch.float32)
    rows = encode_items(Conditioner(tokenizer), some_items(), 64)
    for dropout, training in (("none", False), ("model", True)):
        seen: dict[bool, set[bool]] = {True: set(), False: set()}
        settings = PretrainConfig(steps=4, batch_size=3, optimiser="adamw", dropout=dropout)
        data = ExamplesDataModule(Mixture(rows, [], 0.0), rows, tokenizer.pad_token_id, 3, 4, 0)
        handle = model.transformer.h[0].register_forward_hook(
            lambda module, *_, seen=seen: seen[torch.is_grad_enabled()].add(module.training)
        )
        fit(CausalLMModule(model, settings), data, settings, 0, tmp_path / dropout, lambda done, total: None)
        handle.remove()
        # what is tried once before training (padding, the output layer) is tried without dropout or gradients
        assert seen[True] == {training} and False in seen[False]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_layers_are_computed_again_and_give_the_same_gradients(kind):
    model, given = build(kind), batch()
    expected = gradients(model, cross_entropy(model, given))
    other = build(kind)
    try:
        fit_to_machine(other, Fitting(checkpointing=True, accumulate=2))
    except UserError as error:
        assert kind in WITHOUT_LAYERS and "checkpointing: " in str(error)
        return
    cross_entropy(other, given)  # how this model is run has been tried
    calls: list[bool] = []
    other.get_output_embeddings().register_forward_pre_hook(lambda *_: None)
    loss = cross_entropy(other, given)
    layer = next(module for module in other.modules() if "forward" in vars(module))
    next(layer.children()).register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    found = gradients(other, loss)
    assert calls, "nothing was computed again"
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1e-3)
        assert (found[name] - gradient).abs().max() <= 2e-3 * scale, name


WITHOUT_LAYERS = {"ctrl", "gpt_neox_japanese", "openai-gpt"}
"""transformers cannot compute their layers again either."""


def test_it_is_said_on_the_board():
    def note(**overrides: Any) -> str:
        return _dropout_note(make_plan(load("tiny").with_overrides(overrides)))

    assert note() == "Dropout inside models: none, in base models and in every arm."
    assert "as each model's configuration says" in note(**{"pretrain.dropout": "model", "finetune.dropout": "model"})
    assert "differs" in note(**{"finetune.dropout": "model"})
    with pytest.raises(UserError, match=r"finetune.dropout: .*'none' or 'model'"):
        load("tiny").with_overrides({"finetune.dropout": "off"})
