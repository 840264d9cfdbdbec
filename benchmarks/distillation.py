"""The distillation loss at a vocabulary of 128k: chunked (``fast.chunked``) against all logits at once.

Scaled to fit two cores: 512 positions for time, 1,024 for memory (eager memory grows with positions, ours does
not), hidden size 256. Both sides get forward KL from a full teacher plus cross-entropy, and gradients of hidden
states and head. Peers: torch as most trainers write it, and Liger's chunked loss where liger-kernel is installed (it is
written in torch and runs on a CPU; compiled, as is its default, but for its memory, where compiling would count).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch.nn.functional import cross_entropy

from benchmarks.harness import Options, Result, compared, interleaved, memory_of, milliseconds, ratios
from benchmarks.losses import HIDDEN, Task, peak
from ecr_bench.fast.chunked import ELEMENTS, chunked_loss
from ecr_bench.methods.base import plain_loss
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import distillation_losses

SETTINGS = Distill.Options()


class Distillation(Task):
    """The same with a teacher: its hidden states and head."""

    def __init__(self, positions: int, vocabulary: int, device: str) -> None:
        super().__init__(positions, vocabulary, device)
        self.larger = torch.nn.Linear(HIDDEN, vocabulary, bias=False, device=device)
        self.theirs = torch.randn(positions, HIDDEN, device=device)

    def eager(self) -> torch.Tensor:
        logits = self.head(self.states)
        with torch.no_grad():
            teacher = self.larger(self.theirs)
        return 0.5 * cross_entropy(logits, self.labels) + 0.5 * distillation_losses(logits, teacher, SETTINGS).mean()

    def ours(self) -> torch.Tensor:
        def terms(logits: torch.Tensor, at: slice) -> torch.Tensor:
            with torch.no_grad():
                teacher = self.larger(self.theirs[at])
            kept = distillation_losses(logits, teacher, SETTINGS) @ self.weights[at]
            return 0.5 * plain_loss(logits, self.labels[at], self.weights[at]) + 0.5 * kept

        return chunked_loss(self.head, self.states, terms)[0]

    def liger(self, compiled: bool = True) -> torch.Tensor:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        # beta 0 is forward KL; Liger leaves the temperature's square to the caller
        soft, chunk = 0.5 * SETTINGS.temperature**2, max(1, ELEMENTS // len(self.head.weight))
        loss = LigerFusedLinearJSDLoss(
            0.5, soft, 0.0, temperature=SETTINGS.temperature, compiled=compiled, chunk_size=chunk
        )
        return loss(self.states, self.head.weight, self.theirs, self.larger.weight, self.labels)

    def liger_memory(self) -> torch.Tensor:
        return self.liger(compiled=False)


def run(options: Options) -> Iterator[Result]:
    vocabulary, device = options.pick(128_000, 2000), options.device
    task = Distillation(options.pick(512, 64), vocabulary, device)
    peers = {"eager": "all logits at once (torch)"}
    if find_spec("liger_kernel"):
        peers["liger"] = "Liger's chunked loss, chunks as large as ours"
    works = {name: partial(task.step, name) for name in ("ours", *peers)}
    values = {name: work() for name, work in works.items()}
    times = interleaved(works, options.pick(3, 1), device)
    for name, peer in peers.items():
        off = abs(values[name] / values["ours"] - 1)
        yield compared(
            f"distillation, V {vocabulary // 1000}k: time",
            peer,
            ratios(times, "ours", name),
            need=1.0 if name == "eager" else None,
            at_least=False,
            wrong=f"loss differs by {off:.1e}" if off > 1e-4 else "",
            beside=milliseconds(times),
        )
    positions = options.pick(1024, 3000)
    measured = {name: "liger_memory" if name == "liger" else name for name in works}
    found = {name: memory_of(peak, Distillation, of, positions, vocabulary, device) for name, of in measured.items()}
    for name, peer in peers.items():
        value = found["ours"] / found[name]
        yield compared(
            f"distillation, V {vocabulary // 1000}k, {positions:,} positions: peak memory",
            peer,
            [value],
            need=1 / 6 if name == "eager" else None,
            at_least=False,
            beside={f"{key} MB": round(size / 1e6) for key, size in found.items()},
        )
