"""A batch for the tiny architectures, and gradients by name."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from ecr_bench.data.encode import Example
from ecr_bench.data.module import collate
from tests.helpers.architectures import V


def batch(lengths: tuple[int, ...] = (10, 16, 7), answer: int = 4) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, V, (n,), generator=draw).tolist() for n in lengths]
    return collate([Example(ids, len(ids) - answer, len(ids)) for ids in rows], 0)


def gradients(model: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
