"""What a projection was fitted on, kept so that it can be fitted again without the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def save_targets(path: Path, token_ids: Sequence[Sequence[int]], targets: torch.Tensor) -> None:
    """Write N lists of token ids (without BOS) and the teacher's centred embeddings (N, d), kept as float16."""
    lengths = torch.tensor([len(ids) for ids in token_ids], dtype=torch.int32)
    flat = torch.tensor([token for ids in token_ids for token in ids], dtype=torch.int32)
    save_file({"ids": flat, "lengths": lengths, "targets": targets.half().contiguous()}, path)


def load_targets(path: Path) -> tuple[list[list[int]], torch.Tensor]:
    """Read what ``save_targets`` wrote; targets (N, d) float32."""
    tensors = load_file(path)
    rows = torch.split(tensors["ids"], tensors["lengths"].tolist())
    return [row.tolist() for row in rows], tensors["targets"].float()
