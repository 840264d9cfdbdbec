"""What a metric needs of its rows."""

from __future__ import annotations

import torch


class TooFewRows(ValueError):
    """The data are sound but there is too little of them to measure this."""


def check_rows(x: torch.Tensor, y: torch.Tensor, least: int = 1) -> None:
    """ValueError unless both are matrices of as many rows; TooFewRows below ``least``."""
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"expected (N, d) and (N, e) with the same N, got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) < least:
        raise TooFewRows(f"expected at least {least} rows, got {len(x)}")


def check_neighbours(n: int, k: int) -> None:
    """TooFewRows unless each of ``n`` rows has ``k`` neighbours that are fewer than half of the rows."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if k >= n / 2:
        raise TooFewRows(f"{k} neighbours need more than {2 * k} rows, got {n}")
