"""Base models in the sizes an experiment declares: Llama-style from scratch, or pretrained."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

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
    """Prepare ``model`` for training with less memory, as ``fitting`` says; the gradients stay the same."""
    model.parts = fitting.accumulate  # type: ignore[assignment]  # read by ``methods.base._in_parts``
    if fitting.checkpointing:
        model.train()  # checkpointing is off in eval mode, where ``from_pretrained`` leaves a model
        model.gradient_checkpointing_enable({"use_reentrant": False})


def count_parameters(model: torch.nn.Module) -> int:
    """Numbers in the model, tied weights counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
