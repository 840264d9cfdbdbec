"""The processes that train one cell together, each on its own device. Everywhere else there is one, of rank 0."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import distributed

RowT = TypeVar("RowT")
_together = False


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Inside, the processes of the process group work on one batch. Whatever each does before and after is its own."""
    global _together
    _together = True
    try:
        yield
    finally:
        _together = False


def count() -> int:
    """How many work together here."""
    return distributed.get_world_size() if _together and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of ``tensor`` over all of them, of the same shape and dtype, without gradient; alone, ``tensor``."""
    return _reduced(tensor, distributed.ReduceOp.SUM)


def greatest(number: int) -> int:
    """The greatest of what they give."""
    return int(_reduced(torch.tensor(number, device=_device()), distributed.ReduceOp.MAX))


def first_says(answer: bool) -> bool:
    """What the first of them answers, so that all do the same."""
    return answer if count() == 1 else bool(greatest(int(answer and rank() == 0)))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which each of them may have a share, put together. All must call it."""
    put_together = getattr(tensor, "full_tensor", None)
    return tensor if put_together is None else put_together()


def share(rows: Sequence[RowT]) -> Sequence[RowT]:
    """This process's part of ``rows``: every n-th. All of them where there are too few for everybody."""
    return rows[rank() :: count()] if len(rows) >= count() else rows


def _reduced(tensor: torch.Tensor, how: distributed.ReduceOp.RedOpType) -> torch.Tensor:
    if count() == 1:
        return tensor
    made = tensor.detach().clone()
    distributed.all_reduce(made, how)
    return made


def _device() -> str:
    return "cuda" if count() > 1 and distributed.get_backend() == "nccl" else "cpu"
