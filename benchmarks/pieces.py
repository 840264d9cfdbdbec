"""Everything of ``ecr_bench/fast`` against its plain twin: a whole step of training, a whole pass of scoring.

Shapes and settings of ``baselines/quick.yaml`` at both of its sizes; random weights and rows, since only shapes matter
here; in fine-tuning the loss is on a row's last six tokens. Steps go through ``stages.fitting`` as a run's do. Time is
that of the processor, which a neighbour changes least.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.harness import Options, Result, compared, ratios
from benchmarks.models import PAD, data, rows
from benchmarks.scoring import draw
from ecr_bench.config import load
from ecr_bench.fast.scorer import loglikelihoods
from ecr_bench.fast.switch import VARIABLE
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.stages.fitting import fit

ANSWER = 6


class Clock(Callback):
    """Processor time from the start of the second step to the end of the last."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 1:
            self.started = time.process_time()

    def on_train_end(self, *_: Any) -> None:
        self.spent = time.process_time() - self.started


@contextmanager
def way(name: str) -> Iterator[None]:
    """Inside, ``plain`` or ``fast``."""
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = "1" if name == "plain" else "0"
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


def model_of(size: str) -> LlamaForCausalLM:
    experiment = load("quick")
    given = experiment.sizes[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=experiment.tokenizer.vocab_size, hidden_size=given.hidden_size, num_hidden_layers=given.layers,
        num_attention_heads=given.heads, intermediate_size=given.intermediate_size, tie_word_embeddings=True,
        max_position_embeddings=given.max_length, pad_token_id=PAD,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def training(size: str, stage: str, steps: int) -> Callable[[], float]:
    """Seconds of all steps but the first: loss on an item's last tokens, or on all in pre-training."""
    experiment = load("quick")
    given = (experiment.finetune if stage == "fine-tuning" else experiment.pretrain).model_copy(update={"steps": steps})
    count, vocabulary = given.batch_size * steps, experiment.tokenizer.vocab_size
    batches = data(rows(count, vocabulary, ANSWER if stage == "fine-tuning" else None), given.batch_size, steps)

    def work() -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            fit(CausalLMModule(model_of(size), given), batches, given, 0, Path(folder), lambda *_: None, [clock])
        return clock.spent

    return work


def scoring(size: str, items: int) -> Callable[[], float]:
    model, requests = model_of(size).eval(), draw(load("quick").tokenizer.vocab_size, items)

    def work() -> float:
        started = time.process_time()
        loglikelihoods(model, requests, pad_id=PAD, max_length=128)
        return time.process_time() - started

    return work


def both(work: Callable[[], float], repeats: int) -> dict[str, list[float]]:
    """Each way in turn, after one run of each that is not counted."""
    times: dict[str, list[float]] = {"plain": [], "fast": []}
    for turn in range(-1, repeats):
        for name in times if turn % 2 == 0 else reversed(times):
            with way(name):
                spent = work()
            if turn >= 0:
                times[name].append(spent)
    return times


def run(options: Options) -> Iterator[Result]:
    for size in ["1x"] if options.small else ["1x", "3x"]:
        works = {
            f"{stage}, {size}": training(size, stage, options.pick(24, 2)) for stage in ("fine-tuning", "pre-training")
        }
        works[f"scoring, {size}"] = scoring(size, options.pick(200, 4))
        for what, work in works.items():
            yield compared(
                f"processor time of {what}", "everything plain", ratios(both(work, options.pick(5, 1)), "plain", "fast")
            )
