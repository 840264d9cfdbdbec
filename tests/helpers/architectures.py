"""Tiny random causal models of many architectures, one way to build all of them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

V = 97
IDS = {"vocab_size": V, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 48, "max_position_embeddings": 64,
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "num_layers": 2, "num_heads": 4,
}  # fmt: skip
"""Taken as far as a configuration knows them."""

# what an architecture does around its last layer, turned up until nobody can overlook it
AROUND_THE_HEAD: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"logit_scale": 0.3},
    "falcon_h1": {"lm_head_multiplier": 3.0, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3_text": {"final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 12.0},
    "granitemoe": {"logits_scaling": 8.0},
    "modernbert-decoder": {},
    "nanochat": {},
    "recurrent_gemma": {"logits_soft_cap": 3.0},
    "vaultgemma": {"final_logit_softcapping": 3.0},
}
PLAIN = (
    "apertus arcee biogpt bitnet bloom ctrl cwm diffllama doge ernie4_5 exaone exaone4 falcon falcon_mamba "
    "flex_olmo gemma glm glm4 gpt2 gpt_bigcode gpt_neox gpt_neox_japanese gpt_oss granitemoeshared helium "
    "hunyuan_v1_dense jamba jetmoe lfm2 llama llama4_text mamba minimax ministral mistral mixtral nemotron olmo olmo2 "
    "olmo3 olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen3 rwkv seed_oss smollm3 stablelm starcoder2 xlstm"
)
ARCHITECTURES = sorted({*PLAIN.split(), *AROUND_THE_HEAD})


def build(kind: str, **more: Any) -> PreTrainedModel:
    """In eval mode, float32, the same each time."""
    known = AutoConfig.for_model(kind).to_dict()
    shape = {name: value for name, value in SHAPE.items() if name in known}
    config = AutoConfig.for_model(kind, **{**shape, **IDS, **AROUND_THE_HEAD.get(kind, {}), **more})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()
