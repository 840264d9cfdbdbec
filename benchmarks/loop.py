"""Training tokens per second: our Lightning loop against a plain torch loop and HF Trainer, on the same rows.

Body of 10M parameters, 16k tied vocabulary, fp32, 32 rows a step of 6-96 tokens, loss on every token (another shape:
``benchmarks.pruned``). All use fused AdamW, clipping and a schedule. The plain loop gets our batches, once with our
loss (what is left is Lightning's share), once as it is usually written, on padded rows with the model's own loss. HF
Trainer makes its own, once with its defaults (random order, padded to the longest of a batch), once with its grouping
by length. Counted are real tokens; set-up is not timed.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Subject:
    """What is trained: fresh models of one shape, and the type their products are in (fp32, or bf16 by autocast)."""

    name: str
    make: Callable[[], PreTrainedModel]
    dtype: str = "fp32"

    @property
    def products(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bf16" else torch.float32

    def cast(self) -> torch.autocast:
        return torch.autocast(DEVICE, torch.bfloat16, enabled=self.dtype == "bf16")


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


def ours(subject: Subject, examples: list[Example], steps: int) -> tuple[float, int]:
    """Seconds and tokens of all steps but the first."""
    batches, clock = data(examples, BATCH, steps), Clock()
    module = CausalLMModule(subject.make(), settings(steps, BATCH))
    with tempfile.TemporaryDirectory() as folder:
        into, quiet = Path(folder), lambda done, total: None
        fit(module, batches, settings(steps, BATCH), 0, into, quiet, [clock], dtype=subject.dtype)
    return clock.spent, _tokens(batches.batches[1:], examples)


def plain(subject: Subject, examples: list[Example], steps: int, padded: bool = False) -> tuple[float, int]:
    torch.use_deterministic_algorithms(False)  # Lightning's Trainer leaves it on behind it
    batches, given = data(examples, BATCH, steps), settings(steps, BATCH)
    module = CausalLMModule(subject.make(), given).to(DEVICE)
    optimiser = create_optimiser(module, given)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(step, steps, given.warmup))
    loader = iter(batches.train_dataloader())
    started = 0.0
    for step in range(steps):
        if step == 1:
            started = now(DEVICE)
        batch = {name: tensor.to(DEVICE) for name, tensor in next(loader).items()}
        with subject.cast():
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


def hf(subject: Subject, examples: list[Example], steps: int, sampling: str = "random") -> tuple[float, int]:
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
            logging_steps=10, disable_tqdm=True, optim="adamw_torch_fused", bf16=subject.dtype == "bf16",
            use_cpu=DEVICE == "cpu",
            dataloader_pin_memory=False, train_sampling_strategy=sampling,
        )  # fmt: skip
        dataset: Any = [{"input_ids": row.ids} for row in examples]
        trainer = Trainer(subject.make(), arguments, collate, dataset, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    # it fetches a batch ahead, which is never trained on
    return clock.spent, sum(seen[1:steps])


def _tokens(batches: list[list[int]], examples: list[Example]) -> int:
    return sum(len(examples[index].ids) for batch in batches for index in batch)


def gemm(dtype: torch.dtype) -> float:
    """FLOP/s of a large product: the best of twelve."""
    a, b = torch.randn(2, 1024, 1024, device=DEVICE).to(dtype)
    a @ b
    return 2 * 1024**3 / min(seconds(lambda: a @ b, DEVICE) for _ in range(12))


def compare(subject: Subject, steps: int, turns: int) -> Iterator[Result]:
    """Our loop against all others in turn, and the share of the peak."""
    model = subject.make()
    examples = rows(BATCH * steps * 4, model.config.vocab_size)
    grouped = partial(hf, sampling="group_by_length")
    padded = partial(plain, padded=True)
    loops: dict[str, Any] = {"ours": ours, "plain": plain, "padded": padded, "hf": hf, "hf grouped": grouped}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    peaks: list[float] = []
    for turn in range(turns):
        for name in loops if turn % 2 == 0 else reversed(loops):
            peaks.append(gemm(subject.products))
            spent, tokens = loops[name](subject, examples, steps)
            rates[name].append(spent / tokens)
    beside = {f"{name} tokens/s": round(1 / statistics.median(found)) for name, found in rates.items()}
    peers: list[tuple[str, str, float | None]] = [
        ("plain", "plain torch loop, our loss", 0.97),
        ("padded", "plain torch loop, padded rows", None),
        ("hf", "HF Trainer", 1.3),
        ("hf grouped", "HF Trainer, grouped by length", None),
    ]
    for name, peer, need in peers:
        yield compared(
            f"training tokens/s, {subject.name}", peer, ratios(rates, name, "ours"), need=need, beside=beside
        )
    yield compared(
        f"training: share of the GEMM peak, {subject.name}",
        "product of 1024 x 1024",
        [operations(model, examples) / rate / max(peaks) for rate in rates["ours"]],
        need=0.85,
        beside={"GFLOP/s at peak": round(max(peaks) / 1e9, 1)},
    )


def operations(model: PreTrainedModel, examples: list[Example]) -> float:
    """FLOPs of a token of ``examples`` in training, products of the layers, the head and attention."""
    weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)  # the tied matrix counts once: the head
    config = model.config
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    lengths = [len(row.ids) for row in examples]
    seen = sum(length**2 for length in lengths) / sum(lengths) / 2  # positions a token attends to, on average
    return 6 * weights + 12 * config.num_hidden_layers * width * seen


def run(options: Options) -> Iterator[Result]:
    subject = Subject("10M body, fp32", partial(body, options, options.pick(16_000, 200)))
    yield from compare(subject, options.pick(WINDOW, 3), options.pick(3, 1))
