"""What a metric needs of its rows. Where it is not there, the metric has no value and says why."""

from __future__ import annotations

import torch

ROUNDING = 8
"""Units in the last place by which rows may differ and still count as equal."""
TIE = 1e-12
"""Cosines that differ by less are equal: that much is rounding in float64."""
TIED = 0.05
"""Largest share of rows or items whose order may be left to ties."""


class NotMeasurable(ValueError):
    """The metric is not defined for these rows, or would be an artefact; the message says why, in words."""


class TooFewRows(NotMeasurable):
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


def check_spread(x: torch.Tensor) -> None:
    """NotMeasurable where all rows of ``x`` (N, d) are equal up to rounding in its own dtype.

    What is left of such a cloud is rounding, which has neighbours, directions and correlations like any other data.
    """
    whole = x.double()
    if (whole - whole.mean(0)).norm() <= ROUNDING * torch.finfo(x.dtype).eps * whole.norm():
        raise NotMeasurable("all rows are equal up to rounding")


def check_ties(nearness: torch.Tensor, k: int) -> None:
    """NotMeasurable where ties decide who is among the ``k`` nearest of more than a few rows.

    Args:
        nearness: (N, M), larger is nearer; M above ``k``.
    """
    top = nearness.topk(k + 1, dim=1).values
    tied = (top[:, k - 1] - top[:, k] <= TIE).double().mean()
    if tied > TIED:
        raise NotMeasurable(f"the {k} nearest of {100 * tied:.0f} % of the rows are chosen among equals")
