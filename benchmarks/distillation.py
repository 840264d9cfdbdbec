"""The distillation loss at a vocabulary of 128k: chunked (``methods.chunked``) against all logits at once.

Scaled to fit two cores: 512 positions for time, 1,024 for memory (eager memory grows with positions, ours does
not), hidden size 256. Both sides get forward KL from a full teacher plus cross-entropy, and gradients of hidden
states and head. Peers: torch as most trainers write it, and Liger's chunked loss where liger-kernel is installed (it is
written in torch and runs on a CPU; compiled, as is its default, but for its memory, where compiling would count).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch.nn.functional import cross_entropy

from benchmarks.harness import Options, Result, compared, interleaved, memory_of, milliseconds, ratios
from ecr_bench.config import DistillConfig
from ecr_bench.methods.base import plain_loss
from ecr_bench.methods.chunked import ELEMENTS, chunked_loss
from ecr_bench.methods.losses import distillation_loss

HIDDEN = 256
SETTINGS = DistillConfig()


class Task:
    """Hidden states of student and teacher, two heads and labels, all random."""

    def __init__(self, positions: int, vocabulary: int, device: str) -> None:
        torch.manual_seed(0)
        self.head, self.larger = (torch.nn.Linear(HIDDEN, vocabulary, bias=False, device=device) for _ in range(2))
        self.states = torch.randn(positions, HIDDEN, device=device, requires_grad=True)
        self.theirs = torch.randn(positions, HIDDEN, device=device)
        self.labels = torch.randint(vocabulary, (positions,), device=device)
        self.weights = torch.full((positions,), 1 / positions, device=device)

    def eager(self) -> torch.Tensor:
        logits = self.head(self.states)
        with torch.no_grad():
            teacher = self.larger(self.theirs)
        return 0.5 * cross_entropy(logits, self.labels) + 0.5 * distillation_loss(logits, teacher, SETTINGS)

    def chunked(self) -> torch.Tensor:
        def terms(logits: torch.Tensor, at: slice) -> torch.Tensor:
            with torch.no_grad():
                teacher = self.larger(self.theirs[at])
            kept = distillation_loss(logits, teacher, SETTINGS) * (len(logits) / len(self.labels))
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

    def step(self, loss: Callable[[], torch.Tensor]) -> float:
        self.states.grad = self.head.weight.grad = None
        value = loss()
        value.backward()
        return value.item()


def peak(reset: Callable[[], None], name: str, positions: int, vocabulary: int, device: str) -> None:
    task = Task(positions, vocabulary, device)
    reset()
    task.step(partial(task.liger, compiled=False) if name == "liger" else getattr(task, name))


def run(options: Options) -> Iterator[Result]:
    vocabulary, device = options.pick(128_000, 2000), options.device
    task = Task(options.pick(512, 64), vocabulary, device)
    peers = {"eager": "all logits at once (torch)"}
    if find_spec("liger_kernel"):
        peers["liger"] = "Liger's chunked loss, chunks as large as ours"
    works = {name: partial(task.step, getattr(task, name)) for name in ("chunked", *peers)}
    values = {name: work() for name, work in works.items()}
    times = interleaved(works, options.pick(3, 1), device)
    for name, peer in peers.items():
        off = abs(values[name] / values["chunked"] - 1)
        yield compared(
            f"distillation, V {vocabulary // 1000}k: time",
            peer,
            ratios(times, "chunked", name),
            need=1.0 if name == "eager" else None,
            at_least=False,
            wrong=f"loss differs by {off:.1e}" if off > 1e-4 else "",
            beside=milliseconds(times),
        )
    positions = options.pick(1024, 3000)
    found = {name: memory_of(peak, name, positions, vocabulary, device) for name in works}
    for name, peer in peers.items():
        value = found["chunked"] / found[name]
        yield compared(
            f"distillation, V {vocabulary // 1000}k, {positions:,} positions: peak memory",
            peer,
            [value],
            need=1 / 6 if name == "eager" else None,
            at_least=False,
            beside={f"{key} MB": round(size / 1e6) for key, size in found.items()},
        )
