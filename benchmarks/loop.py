"""Training tokens per second: our Lightning loop against a plain torch loop and HF Trainer, on the same rows.

Body of 10M parameters, 16k tied vocabulary, fp32, 32 rows a step of 6-96 tokens, loss on every token. All use
fused AdamW, clipping and a schedule. The plain loop gets our batches, once with our loss (what is left is Lightning's
share), once as it is usually written, on padded rows with the model's own loss. HF Trainer makes its own, once with its
defaults (random order, padded to the longest of a batch), once with its grouping by length. Counted are real tokens;
set-up is not timed.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.harness import Options, Result, compared, now, ratios, seconds
from benchmarks.models import PAD, body, data, rows, settings
from ecr_bench.data.encode import Example
from ecr_bench.methods.base import CausalLMModule, learning_rate
from ecr_bench.methods.optimisers import create_optimiser
from ecr_bench.stages.fitting import fit

BATCH = 32
WINDOW = 16
"""Steps: one window of ``plan_batches``, so that batches are as even in length as those of a real run."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where Lightning and HF Trainer go by themselves."""


class Clock(Callback):
    """Time from the start of the first step to the end of the last."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 1:
            self.started = now(DEVICE)

    def on_train_end(self, *_: Any) -> None:
        self.spent = now(DEVICE) - self.started


class HfClock(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            self.started = now(DEVICE)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.spent = now(DEVICE) - self.started


def ours(options: Options, examples: list[Example], vocabulary: int, steps: int) -> tuple[float, int]:
    """Seconds and tokens of all steps but the first."""
    batches, clock = data(examples, BATCH, steps), Clock()
    module = CausalLMModule(body(options, vocabulary), settings(steps, BATCH))
    with tempfile.TemporaryDirectory() as folder:
        fit(module, batches, settings(steps, BATCH), 0, Path(folder), lambda done, total: None, [clock])
    return clock.spent, _tokens(batches.batches[1:], examples)


def plain(
    options: Options, examples: list[Example], vocabulary: int, steps: int, padded: bool = False
) -> tuple[float, int]:
    torch.use_deterministic_algorithms(False)  # Lightning's Trainer leaves it on behind it
    batches, given = data(examples, BATCH, steps), settings(steps, BATCH)
    module = CausalLMModule(body(options, vocabulary), given).to(DEVICE)
    optimiser = create_optimiser(module, given)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(step, steps, given.warmup))
    loader = iter(batches.train_dataloader())
    started = 0.0
    for step in range(steps):
        if step == 1:
            started = now(DEVICE)
        batch = {name: tensor.to(DEVICE) for name, tensor in next(loader).items()}
        loss = _usual_loss(module.model, batch) if padded else module.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), given.clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return now(DEVICE) - started, _tokens(batches.batches[1:], examples)


def _usual_loss(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Over all places of the padded rows, as ``AutoModelForCausalLM`` computes it."""
    labels = batch["labels"]  # shifted already
    output = model(input_ids=batch["input_ids"], labels=labels, shift_labels=labels, use_cache=False)
    loss: torch.Tensor = output.loss
    return loss


def hf(
    options: Options, examples: list[Example], vocabulary: int, steps: int, sampling: str = "random"
) -> tuple[float, int]:
    torch.use_deterministic_algorithms(False)
    seen: list[int] = []

    def collate(some: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        seen.append(sum(len(row["input_ids"]) for row in some))
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row["input_ids"]) for row in some], batch_first=True, padding_value=-100
        )
        mask = ids != -100
        return {"input_ids": ids.masked_fill(~mask, PAD), "labels": ids, "attention_mask": mask.long()}

    clock = HfClock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, max_steps=steps, report_to=[], save_strategy="no",
            logging_steps=10, disable_tqdm=True, optim="adamw_torch_fused",
            dataloader_pin_memory=False, train_sampling_strategy=sampling,
        )  # fmt: skip
        dataset: Any = [{"input_ids": row.ids} for row in examples]
        trainer = Trainer(body(options, vocabulary), arguments, collate, dataset, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    # it fetches a batch ahead, which is never trained on
    return clock.spent, sum(seen[1:steps])


def _tokens(batches: list[list[int]], examples: list[Example]) -> int:
    return sum(len(examples[index].ids) for batch in batches for index in batch)


def gemm() -> float:
    """FLOP/s of a large float32 product: the best of twelve."""
    a, b = torch.randn(2, 1024, 1024, device=DEVICE)
    a @ b
    return 2 * 1024**3 / min(seconds(lambda: a @ b, DEVICE) for _ in range(12))


def run(options: Options) -> Iterator[Result]:
    vocabulary, steps = options.pick(16_000, 200), options.pick(WINDOW, 3)
    examples = rows(BATCH * steps * 4, vocabulary)
    grouped = partial(hf, sampling="group_by_length")
    padded = partial(plain, padded=True)
    loops: dict[str, Any] = {"ours": ours, "plain": plain, "padded": padded, "hf": hf, "hf grouped": grouped}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    peaks: list[float] = []
    for turn in range(options.pick(3, 1)):
        for name in loops if turn % 2 == 0 else reversed(loops):
            peaks.append(gemm())
            spent, tokens = loops[name](options, examples, vocabulary, steps)
            rates[name].append(spent / tokens)
    beside = {f"{name} tokens/s": round(1 / statistics.median(found)) for name, found in rates.items()}
    yield compared("training tokens/s, 10M body", "plain torch loop, our loss", ratios(rates, "plain", "ours"),
                   need=0.97, beside=beside)  # fmt: skip
    yield compared("training tokens/s, 10M body", "plain torch loop, padded rows", ratios(rates, "padded", "ours"),
                   beside=beside)  # fmt: skip
    yield compared("training tokens/s, 10M body", "HF Trainer", ratios(rates, "hf", "ours"), need=1.3, beside=beside)
    yield compared("training tokens/s, 10M body", "HF Trainer, grouped by length", ratios(rates, "hf grouped", "ours"),
                   beside=beside)  # fmt: skip
    model = body(options, vocabulary)
    weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)  # the tied matrix counts once: the head
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    lengths = [len(row.ids) for row in examples]
    seen = sum(length**2 for length in lengths) / sum(lengths) / 2  # positions a token attends to, on average
    per_token = 6 * weights + 12 * layers * width * seen
    shares = [per_token / rate / max(peaks) for rate in rates["ours"]]
    yield compared("training: share of the GEMM peak, fp32", "product of 1024 x 1024", shares, need=0.85,
                   beside={"GFLOP/s at peak": round(max(peaks) / 1e9, 1)})  # fmt: skip
