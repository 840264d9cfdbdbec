"""Log-likelihoods in float64: what both sides of a comparison in float32 are measured against.

Two programs that round differently differ by the sum of their errors, which says nothing about either. The reference
takes one request at a time, whole, unpadded, and does all arithmetic in float64, on the float32 weights as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from ecr_bench.fast.packing import Request

Score = Sequence[tuple[float, bool]]
FLOOR = 1e-4
"""Nats off the reference that no benchmark's result can feel."""


class _Float64(TorchFunctionMode):
    """Every cast to float32 becomes one to float64: norms, rotary tables and softmax ask for float32 by name."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.float:
            return args[0].double()
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        return func(*args, **{k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()})


@torch.no_grad()
def exact(model: PreTrainedModel, requests: Sequence[Request]) -> Score:
    """Sum of log-probabilities of each continuation in nats, and whether each of its tokens is the argmax.

    ``requests`` must fit the model's window.
    """
    double: Any = copy.deepcopy(model).double()
    result = []
    with _Float64():
        for context, continuation in requests:
            ids = torch.tensor([[*context, *continuation][:-1]], device=model.device)
            logits = double(input_ids=ids, use_cache=False).logits[0, len(context) - 1 :]
            assert logits.dtype == torch.float64
            target = torch.tensor(continuation, device=model.device)
            chosen = logits.log_softmax(-1).gather(1, target[:, None])
            result.append((float(chosen.sum()), bool((logits.argmax(-1) == target).all())))
    return result


@dataclass(frozen=True)
class Distance:
    """How far a program's scores are from the reference: largest difference in nats, and differing greedy flags."""

    nats: float
    greedy: int

    @classmethod
    def of(cls, found: Score, reference: Score) -> Distance:
        pairs = list(zip(found, reference, strict=True))
        return cls(max(abs(a - b) for (a, _), (b, _) in pairs), sum(a != b for (_, a), (_, b) in pairs))


def shortfall(ours: Distance, theirs: Distance) -> str:
    """Why ours does not count: farther off than the peer, by more than a result can feel; empty where it does."""
    if ours.nats > max(FLOOR, theirs.nats):
        return f"scores are {ours.nats:.1e} nats off float64, those of the peer {theirs.nats:.1e}"
    if ours.greedy > theirs.greedy:
        return f"{ours.greedy} greedy flags differ from float64, {theirs.greedy} of the peer"
    return ""
