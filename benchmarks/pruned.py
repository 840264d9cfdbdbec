"""Training tokens per second (``benchmarks.loop``) with the shape of the compact model of ``compressed``: the
configuration of Gemma 3 270M with six of its layers and 8,000 ids. Its weights are random: no time depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, PreTrainedModel

from benchmarks.harness import Options, Result
from benchmarks.loop import WINDOW, Subject, compare
from benchmarks.models import PAD
from ecr_bench.methods.layer_choice import even
from ecr_bench.methods.packaged import local_source

LAYERS, VOCABULARY = 6, 8_000


def shape(options: Options) -> Any:
    if options.small:
        return Gemma3TextConfig(
            vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, pad_token_id=PAD,
        )  # fmt: skip
    config: Any = AutoConfig.from_pretrained(local_source("package:gemma3-270m"))
    config.layer_types = [config.layer_types[i] for i in even(LAYERS, config.num_hidden_layers)]
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = LAYERS, VOCABULARY, PAD
    config.bos_token_id, config.eos_token_id = 1, 2
    return config


def fresh(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def run(options: Options) -> Iterator[Result]:
    config = shape(options)
    for dtype in ("fp32", "bf16"):
        subject = Subject(f"pruned Gemma 3 270M, {dtype}", partial(fresh, config), dtype)
        yield from compare(subject, options.pick(WINDOW, 3), options.pick(2, 1))
