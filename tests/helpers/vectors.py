"""Random rows and rotations."""

from __future__ import annotations

import torch


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int = 9) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed))[0]
