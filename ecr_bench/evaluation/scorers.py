"""From the model folder a cell left behind to what lm-eval scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.evaluation.fusion import FusedLM
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.probe import ProbeLM
from ecr_bench.methods.probe import Probe
from ecr_bench.precision import PRECISIONS, describe
from ecr_bench.precision.adapted import has_adapter, load_adapted


@dataclass(frozen=True)
class Scorer:
    """A loaded cell and the bytes its weights take in memory (without what lies beside the model)."""

    lm: EcrLM | ProbeLM
    bytes: int


def open_scorer(folder: Path, precision: str, device: str, batch_tokens: int) -> Scorer:
    """Load a cell at ``precision``; a probe and a cell with an adapter have only the one they were made in."""
    tokenizer = load_tokenizer(folder)
    if (folder / "probe.json").is_file():
        probe = Probe.load(folder, tokenizer)
        return Scorer(ProbeLM(probe), probe.bytes)
    model = load_adapted(folder, device) if has_adapter(folder) else PRECISIONS.get(precision)(folder, device)
    given: dict[str, Any] = {
        "tokenizer": tokenizer,
        "conditioner": folder / "conditioner",
        "batch_tokens": batch_tokens,
    }
    fusion = folder / "fusion"
    lm = FusedLM(model, fusion=fusion, **given) if fusion.is_dir() else EcrLM(model, **given)
    return Scorer(lm, describe(model)["bytes"])


def disk_bytes(folder: Path, weights: int | None = None) -> int:
    """Size of all files under ``folder``: weights, tokenizer and what lies beside the model.

    ``weights``: bytes the model's weights take at another precision, counted instead of those that lie there; a file
    of them is as large but for its header of some kB.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in files if weights is None or path.parent != folder or path.suffix != ".safetensors"]
    return sum(path.stat().st_size for path in kept) + (weights or 0)
