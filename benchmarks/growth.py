"""How cost grows: ten times as many items, anchors, rows or vocabulary ids, and what grows worse than linearly.

The ratio is the time for ten times as much over ten times the time for one; above 1 (with 15 % for noise) is worse
than linear and is flagged. Sizes are small: constant costs show, so a low value is no praise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.anchors import vectors_of
from benchmarks.harness import Options, Result, compared, interleaved, milliseconds
from benchmarks.models import PAD, rows
from benchmarks.scoring import WINDOW, build, draw
from ecr_bench.config import AnchorsConfig
from ecr_bench.data.module import plan_batches
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.kmeans import kmeans
from ecr_bench.fast.chunked import chunked_loss
from ecr_bench.fast.scorer import loglikelihoods
from ecr_bench.methods.base import plain_loss

TIMES = 10


def items(count: int, device: str) -> Callable[[], Any]:
    model, requests = build(2000, device, torch.float32), draw(2000, count)
    return lambda: loglikelihoods(model, requests, pad_id=PAD, max_length=WINDOW)


def scored_vocabulary(ids: int, device: str) -> Callable[[], Any]:
    model, requests = build(ids, device, torch.float32), draw(ids, 8)
    return lambda: loglikelihoods(model, requests, pad_id=PAD, max_length=WINDOW)


def anchors(k: int, vectors: torch.Tensor) -> Callable[[], Any]:
    return lambda: kmeans(vectors, k, 25, 0)


def codes(k: int, vectors: torch.Tensor) -> Callable[[], Any]:
    found = Anchors(vectors[None, :k].clone(), {}, AnchorsConfig(k=k), "")
    return lambda: found.assign(vectors, 4)


def batches(count: int) -> Callable[[], Any]:
    lengths = [row.length for row in rows(count, 100)]
    return lambda: plan_batches(lengths, count, 0.0, 16, count // 16, 0)


def loss_vocabulary(ids: int, device: str) -> Callable[[], Any]:
    torch.manual_seed(0)
    head = torch.nn.Linear(128, ids, bias=False, device=device)
    states = torch.randn(256, 128, device=device, requires_grad=True)
    labels = torch.randint(ids, (256,), device=device)
    weights = torch.full((256,), 1 / 256, device=device)
    return lambda: chunked_loss(head, states, lambda x, at: plain_loss(x, labels[at], weights[at]))[0].backward()


def run(options: Options) -> Iterator[Result]:
    device, n = options.device, options.pick(10, 1)
    # ten times as many are still few enough for the same k-means: above 50,000 rows it does fewer rounds
    vectors, many = vectors_of(500 * n), vectors_of(5000 * n)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "items x 10: scoring": (items(2 * n, device), items(2 * n * TIMES, device)),
        "vocabulary x 10: scoring": (scored_vocabulary(300 * n, device), scored_vocabulary(300 * n * TIMES, device)),
        "vocabulary x 10: loss and gradients": (loss_vocabulary(500 * n, device), loss_vocabulary(5000 * n, device)),
        "anchors x 10: k-means": (anchors(8, vectors), anchors(80, vectors)),
        "anchors x 10: codes": (codes(20, vectors), codes(200, vectors)),
        "rows x 10: k-means": (anchors(16, vectors), anchors(16, many)),
        "rows x 10: codes": (codes(32, vectors), codes(32, many)),
        "rows x 10: planning of batches": (batches(800 * n), batches(8000 * n)),
    }
    for name, (one, ten) in pairs.items():
        times = interleaved({"one": one, "ten": ten}, options.pick(3, 1), device)
        growth = [b / a / TIMES for a, b in zip(times["one"], times["ten"], strict=True)]
        yield compared(name, "linear growth", growth, need=1.15, at_least=False, beside=milliseconds(times))
