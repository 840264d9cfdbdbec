"""Cross-entropy of a linear head, its value and gradients: ours (``fast.chunked``) against what libraries offer.

512 positions, hidden size 256, as in ``distillation``. Peers: all logits at once; torch's own chunked
``linear_cross_entropy`` (torch 2.13 and later, its automatic chunks). Liger's and cut-cross-entropy's fused
cross-entropy need Triton, which has no CPU backend: they cannot run here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn import functional

from benchmarks.harness import Options, Result, compared, interleaved, memory_of, milliseconds, ratios
from ecr_bench.fast.chunked import chunked_loss
from ecr_bench.methods.base import plain_loss

HIDDEN = 256
PEERS = {"eager": "all logits at once (torch)", "torch": "torch linear_cross_entropy, chunked"}


class Task:
    """Hidden states, a head and labels, all random."""

    def __init__(self, positions: int, vocabulary: int, device: str) -> None:
        torch.manual_seed(0)
        self.head = torch.nn.Linear(HIDDEN, vocabulary, bias=False, device=device)
        self.states = torch.randn(positions, HIDDEN, device=device, requires_grad=True)
        self.labels = torch.randint(vocabulary, (positions,), device=device)
        self.weights = torch.full((positions,), 1 / positions, device=device)

    def ours(self) -> torch.Tensor:
        return chunked_loss(self.head, self.states, lambda x, at: plain_loss(x, self.labels[at], self.weights[at]))[0]

    def eager(self) -> torch.Tensor:
        return functional.cross_entropy(self.head(self.states), self.labels)

    def torch(self) -> torch.Tensor:
        options = torch.nn.LinearCrossEntropyOptions()
        return functional.linear_cross_entropy(self.states, self.head.weight, self.labels, options=options)

    def step(self, name: str) -> float:
        self.states.grad = self.head.weight.grad = None
        loss: Callable[[], torch.Tensor] = getattr(self, name)
        value = loss()
        value.backward()
        return value.item()


def peak(reset: Callable[[], None], make: type[Task], name: str, positions: int, vocabulary: int, device: str) -> None:
    task = make(positions, vocabulary, device)
    reset()
    task.step(name)


def run(options: Options) -> Iterator[Result]:
    peers = {
        name: peer for name, peer in PEERS.items() if name == "eager" or hasattr(functional, "linear_cross_entropy")
    }
    positions = options.pick(512, 64)
    for vocabulary in [2000] if options.small else [16_000, 128_000]:
        task = Task(positions, vocabulary, options.device)
        works = {name: partial(task.step, name) for name in ("ours", *peers)}
        values = {name: work() for name, work in works.items()}
        times = interleaved(works, options.pick(5, 1), options.device)
        sizes = {name: memory_of(peak, Task, name, positions, vocabulary, options.device) for name in works}
        for name, peer in peers.items():
            off = abs(values[name] / values["ours"] - 1)
            yield compared(
                f"cross-entropy and gradients, V {vocabulary // 1000}k: time",
                peer,
                ratios(times, "ours", name),
                at_least=False,
                wrong=f"loss differs by {off:.1e}" if off > 1e-4 else "",
                beside={**milliseconds(times), **{f"{key} MB": round(size / 1e6) for key, size in sizes.items()}},
            )
