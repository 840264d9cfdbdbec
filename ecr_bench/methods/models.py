"""Base models in the sizes an experiment declares: Llama-style from scratch, or pretrained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from ecr_bench.errors import UserError
from ecr_bench.sizes import Fitting, PretrainedSize, SizeConfig


def base_model(
    size: SizeConfig | PretrainedSize, tokenizer: PreTrainedTokenizerBase, seed: int, as_is: bool = False
) -> PreTrainedModel:
    """Where pre-training starts, float32: a new model or a pretrained one (``as_is``: in the dtype it was saved in)."""
    if isinstance(size, SizeConfig):
        return create_model(size, tokenizer, seed)
    from ecr_bench.methods.pretrained import load_pretrained

    return load_pretrained(size, tokenizer, "auto" if as_is else torch.float32)


def create_model(size: SizeConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """A randomly initialised Llama with tied embeddings, float32; the same for the same seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        intermediate_size=size.intermediate_size,
        max_position_embeddings=size.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def fit_to_machine(model: PreTrainedModel, fitting: Fitting) -> None:
    """Prepare ``model`` for training with less memory, as ``fitting`` says; the gradients stay the same.

    UserError for checkpointing of a model whose layers transformers does not name.
    """
    model.parts = fitting.accumulate  # type: ignore[assignment]  # read by ``methods.base._in_parts``
    if fitting.checkpointing:
        _compute_layers_again(model)


def _compute_layers_again(model: PreTrainedModel) -> None:
    """Keep only the input of each layer for the backward pass, in training and in eval mode.

    transformers' own checkpointing works in training mode alone, which would bring the model's dropout with it.
    """
    layers = outer_layers(model)
    for layer in layers:
        layer.forward = partial(_computed_again, layer.forward)
    if not layers:
        raise UserError(f"checkpointing: {type(model).__name__} has no layers to compute again; set it to false")


def outer_layers(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that transformers names, of all models in ``module``; of one inside another, the outer."""
    found: dict[str, torch.nn.Module] = {}
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(part, GradientCheckpointingLayer) and not inside:
            found[name] = part
    return list(found.values())


def _computed_again(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


def count_parameters(model: torch.nn.Module) -> int:
    """Numbers in the model, tied weights counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
