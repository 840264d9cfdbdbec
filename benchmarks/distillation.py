"""The distillation loss at a vocabulary of 128k: chunked (``methods.chunked``) against all logits at once.

Scaled to fit two cores: 512 positions for time, 1,024 for memory (eager memory grows with positions, ours does
not), hidden size 256. Both sides get forward KL from a full teacher plus cross-entropy, and gradients of hidden
states and head. Peers: torch as most trainers write it, and Liger's chunked JSD where it is installed (its kernels
need CUDA; this is its torch path).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.harness import Options, Result, compared, interleaved, memory_of, milliseconds, ratios
from ecr_bench.config import DistillConfig
from ecr_bench.methods.base import plain_loss
from ecr_bench.methods.chunked import chunked_loss
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

    def step(self, loss: Callable[[], torch.Tensor]) -> float:
        self.states.grad = self.head.weight.grad = None
        value = loss()
        value.backward()
        return value.item()


def peak(reset: Callable[[], None], name: str, positions: int, vocabulary: int, device: str) -> None:
    task = Task(positions, vocabulary, device)
    reset()
    task.step(getattr(task, name))


def run(options: Options) -> Iterator[Result]:
    vocabulary, device = options.pick(128_000, 2000), options.device
    task = Task(options.pick(512, 64), vocabulary, device)
    values = task.step(task.eager), task.step(task.chunked)
    works: dict[str, Any] = {
        "eager": lambda: task.step(task.eager),
        "ours": lambda: task.step(task.chunked),
    }
    times = interleaved(works, options.pick(2, 1), device)
    off = abs(values[0] - values[1]) / abs(values[0])
    yield compared(
        f"distillation, V {vocabulary // 1000}k: time",
        "all logits at once (torch)",
        ratios(times, "ours", "eager"),
        need=1.0,
        at_least=False,
        wrong=f"loss differs by {off:.1e}" if off > 1e-4 else "",
        beside=milliseconds(times),
    )
    positions = options.pick(1024, 3000)
    found = {name: memory_of(peak, name, positions, vocabulary, device) for name in ("eager", "chunked")}
    value = found["chunked"] / found["eager"]
    yield Result(
        f"distillation, V {vocabulary // 1000}k, {positions:,} positions: peak memory",
        "all logits at once (torch)",
        value,
        value,
        value,
        need=1 / 6,
        at_least=False,
        beside={f"{name} MB": round(size / 1e6) for name, size in found.items()},
    )
