"""A loss of an output head's logits, a few positions at a time: all logits are never held at once.

Loss and gradients are found together in the forward pass, chunk by chunk, as Liger (arXiv 2410.10989, section 3.2)
and cut-cross-entropy (arXiv 2411.09009) do. Here the loss is any function of logits, so there
is one copy of its math; it is differentiated by autograd inside each chunk (tests/fast/test_chunked.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear

from ecr_bench.fast.switch import plain

ELEMENTS = 1 << 22
"""Logits (positions x ids) of one chunk: 16 MB in float32."""

GROUP = 8
"""Chunks whose logits are computed and whose gradients are added up together: such a product reads the whole head."""

Terms = Callable[[torch.Tensor, slice], torch.Tensor]
"""Logits (n, V) float32 of the positions of a slice -> terms (t,), each a sum over these positions."""


def chunked_loss(
    head: torch.nn.Module, states: torch.Tensor, terms: Terms, elements: int = ELEMENTS
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first of the terms summed over all positions, differentiable, and all terms (t,), detached.

    Args:
        head: the output layer. Anything but a plain linear layer is run whole, as is what fits one chunk.
        states: hidden states (N, d) of the N positions that count.
        terms: must be a sum over positions, so that chunks can be added; nothing but its logits gets a gradient.
        elements: logits of one chunk.

    Only for a first derivative: the gradients are numbers when the backward pass begins.
    """
    # a subclass or a hook may compute something else than the product
    hooked = head._forward_hooks or head._forward_pre_hooks
    product = head if type(head) is torch.nn.Linear and not hooked and not plain() else None
    if product is None or len(states) * len(product.weight) <= elements:
        found = terms(head(states).float(), slice(0, len(states)))
        return found[0], found.detach()
    inputs: list[torch.Tensor | None] = [states, product.weight, product.bias]
    if not torch.is_grad_enabled():
        inputs = [tensor if tensor is None else tensor.detach() for tensor in inputs]
    total, found = _Chunked.apply(*inputs, terms, max(1, elements // len(product.weight)))
    return total, found


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, terms: Terms, rows: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = ctx.needs_input_grad[:3]
        grads = [
            torch.zeros_like(tensor) if tensor is not None and needed else None
            for tensor, needed in zip((states, weight, bias), wanted, strict=True)
        ]
        found = []
        for start in range(0, len(states), GROUP * rows):
            group = slice(start, min(start + GROUP * rows, len(states)))
            logits = linear(states[group], weight, bias).float()
            for first in range(group.start, group.stop, rows):
                at = slice(first, min(first + rows, group.stop))
                inside = slice(at.start - start, at.stop - start)
                parts, slope = _slope(logits[inside], terms, at, any(wanted))
                found.append(parts)
                if slope is not None:
                    logits[inside] = slope
            if any(wanted):
                _add(grads, group, logits.to(weight.dtype), states[group].to(weight.dtype), weight)
        ctx.save_for_backward(*grads)
        summed = torch.stack(found).sum(0)
        ctx.mark_non_differentiable(summed)
        return summed[0].clone(), summed

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = ctx.saved_tensors
        if float(slopes[0]) != 1:  # the head's gradient is large: no copy where none is needed
            grads = [grad if grad is None else grad * slopes[0] for grad in grads]
        return (*grads, None, None)


def _slope(logits: torch.Tensor, terms: Terms, at: slice, wanted: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The terms, detached, and the derivative of the first by ``logits`` (n, V), if it is wanted."""
    logits.requires_grad_(wanted)
    with torch.enable_grad():
        parts = terms(logits, at)
        first = parts[0]
    return parts.detach(), torch.autograd.grad(first, logits)[0] if wanted else None


def _add(
    grads: list[torch.Tensor | None], at: slice, slope: torch.Tensor, states: torch.Tensor, weight: torch.Tensor
) -> None:
    """Add one group's share: ``slope`` (n, V) is the loss's derivative by its logits."""
    if grads[0] is not None:
        grads[0][at] = slope @ weight
    if grads[1] is not None:
        grads[1].addmm_(slope.T, states)
    if grads[2] is not None:
        grads[2] += slope.sum(0)
