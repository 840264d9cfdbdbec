"""Train stage of the arm without a language model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ecr_bench.divergence import KEY
from ecr_bench.items.files import read_items
from ecr_bench.methods.method import Ingredients
from ecr_bench.methods.probe import fit_probe
from ecr_bench.runner.memory import peak_memory, reset_peak_memory

BROKEN = {KEY: "the weights of the probe are not finite"}


def train_probe(given: Ingredients, items: Path, folder: Path) -> dict[str, Any]:
    """Fit the probe on the labelled rows the other arms get, save it, and return numbers like theirs."""
    assert given.projection is not None
    reset_peak_memory()
    started = time.perf_counter()
    training, validation = read_items(items / "train"), read_items(items / "validation")
    probe, stats = fit_probe(given.tokenizer, given.projection, training, validation)
    probe.save(folder / "model")
    with SummaryWriter(folder / "tensorboard") as board:
        for task, numbers in stats.items():
            for name, value in numbers.items():
                board.add_scalar(f"probe/{task}/{name}", value, 0)
    return {
        "parameters": probe.parameters,
        "side_parameters": given.projection.parameters,
        "side_bytes": given.projection.bytes,
        "deployable": True,
        "extra_tokens": 0,
        "train_seconds": round(time.perf_counter() - started, 2),
        "probe": stats,
        "peak_memory": peak_memory(),
        **({} if all(weight.isfinite().all() for weight in probe.weights.values()) else BROKEN),
    }
