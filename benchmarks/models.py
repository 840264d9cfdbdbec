"""A small Llama and rows for the training benchmarks: synthetic, since only shapes matter here."""

from __future__ import annotations

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.harness import Options
from ecr_bench.config import OptimiserConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import ExamplesDataModule, Mixture

PAD = 0


def body(options: Options, vocabulary: int, window: int = 256) -> LlamaForCausalLM:
    """A body of 9.9M parameters with tied embeddings."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=options.pick(320, 32),
        num_hidden_layers=options.pick(8, 1),
        num_attention_heads=options.pick(5, 2),
        intermediate_size=options.pick(864, 64),
        max_position_embeddings=window,
        tie_word_embeddings=True,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def rows(count: int, vocabulary: int, answer: int | None = None, control: int = 0) -> list[Example]:
    """Rows of 6 to 96 tokens, log-normal around 24 as sentences are; loss on all tokens or the last ``answer``.

    ``control``: so many more tokens at the front, as control tokens add them; the rest stays the same.
    """
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(24), 0.5, count), 6, 96).astype(int)
    found = []
    for length in lengths.tolist():
        ids = [1] * control + rng.integers(3, vocabulary, length).tolist()
        found.append(Example(ids, 1 if answer is None else len(ids) - answer, length))
    return found


def data(examples: list[Example], batch_size: int, steps: int) -> ExamplesDataModule:
    return ExamplesDataModule(Mixture(examples, [], 0.0), [], PAD, batch_size, steps, 0)


def settings(steps: int, batch_size: int) -> OptimiserConfig:
    return OptimiserConfig(steps=steps, batch_size=batch_size, learning_rate=1e-3, optimiser="adamw", clip=1.0)
