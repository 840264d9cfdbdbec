"""Base models that somebody else has trained: read, reduced to their text part, and made uniform."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.divergence import check_finite
from ecr_bench.errors import UserError
from ecr_bench.hub import read_model
from ecr_bench.methods.packaged import local_source
from ecr_bench.sizes import PretrainedSize


def load_pretrained(
    size: PretrainedSize, tokenizer: PreTrainedTokenizerBase, dtype: Any = "auto", tokens: int | None = None
) -> PreTrainedModel:
    """The whole model ``size`` names, in eval mode on the CPU, in ``dtype`` ("auto": the one it was saved in).

    Its configuration says which special tokens ``tokenizer`` (``data.tokenizer.own_tokenizer``) really uses, and its
    vocabulary has a row for each token, of which there are ``tokens`` (None: those of ``tokenizer``). UserError: not
    readable, gated, weights that are not finite, or a window below ``size.max_length``.
    """
    who = f"model {size.model!r}"
    model = text_part(read_model(AutoModelForCausalLM, local_source(size.model), who, size.revision, dtype=dtype))
    check_finite(model, who)
    config = model.config
    if (room := config.max_position_embeddings) < size.max_length:
        raise UserError(f"{who}: reads {room} tokens, max_length is {size.max_length}: at most {room}")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))
    _a_row_for_each_token(model, tokens or len(tokenizer))
    return model.eval()


@torch.no_grad()
def _a_row_for_each_token(model: PreTrainedModel, tokens: int) -> None:
    """Zero rows for tokens the model has none for (Gemma 3's image token); random ones would differ each time."""
    if tokens <= (rows := model.config.vocab_size):
        return
    model.resize_token_embeddings(tokens, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight: Any = layer.weight
        weight[rows:] = 0


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """The language model inside a multimodal one (Gemma 3 from 4b on); other models as they are.

    Reading such a checkpoint as a text model directly gives random weights and no error (transformers 5.24): the
    names of the weights differ.
    """
    config = model.config.get_text_config()
    if config is model.config:
        return model
    inner: Any = getattr(model.base_model, "language_model", None)
    if inner is None:
        raise UserError(f"{type(model).__name__}: no language model found inside; give a text-only model")
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(config)
    state = {f"{text.base_model_prefix}.{name}": tensor for name, tensor in inner.state_dict().items()}
    state["lm_head.weight"] = model.get_output_embeddings().weight.detach()
    text.load_state_dict(state, strict=False, assign=True)
    text.tie_weights()
    _restore_buffers(text, model)
    return text


def _restore_buffers(text: PreTrainedModel, model: PreTrainedModel) -> None:
    """Buffers that are no part of a checkpoint (rotary frequencies, embedding scale), from the model they belong to."""
    inner: Any = model.base_model.language_model
    for name, buffer in inner.named_buffers():
        parent, _, last = name.rpartition(".")
        module = text.base_model.get_submodule(parent)
        module._buffers[last] = buffer
    for weight in (*text.parameters(), *text.buffers()):
        assert weight.device.type != "meta"
