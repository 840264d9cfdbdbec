"""A batch in parts, for memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ecr_bench.fast.switch import plain


def in_parts(model: PreTrainedModel, states: Callable[..., torch.Tensor], *rows: torch.Tensor) -> torch.Tensor:
    """``states`` of tensors (B, ...), joined.

    With ``model.parts`` (``methods.models.fit_to_machine``) above 1, the rows go through in so many parts in
    training, each computed again in the backward pass: memory for one part, and gradients of the whole batch,
    whatever loss follows. (Averaging the losses of parts, the usual way, is exact only where each weighs the same.)
    """
    parts = 1 if plain() else int(getattr(model, "parts", 1))
    if parts == 1 or not torch.is_grad_enabled():
        return states(*rows)
    chunks = zip(*(tensor.tensor_split(min(parts, len(tensor))) for tensor in rows), strict=True)
    return torch.cat([checkpoint(states, *chunk, use_reentrant=False) for chunk in chunks])
