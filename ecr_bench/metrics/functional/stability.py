"""How smoothly a run trained, from its loss and gradient norm at every step."""

from __future__ import annotations

import torch

from ecr_bench.metrics.functional.checks import TooFewRows

WINDOW = 50
LEAST_PAST = 20
DEVIATIONS = 7.0
MAD_TO_STD = 1.4826
"""Median absolute deviation times this is the standard deviation of normal data."""
START, END = 0.05, 0.1
"""Shares of the steps that count as the beginning and the end of a run."""


def spikes(values: torch.Tensor, window: int = WINDOW, deviations: float = DEVIATIONS) -> torch.Tensor:
    """Which steps lie far above what came before.

    OLMo 2 (arXiv 2501.00656, "spike score") counts values at least seven standard deviations away from a rolling
    average over 1,000 steps. Runs here are shorter, so the window is too; centre and spread are median and scaled
    median absolute deviation of the steps before, so that a spike does not hide the next one; only jumps upwards
    count. A step with fewer than 20 before it is not judged, one that is not finite is always a spike. A loss that
    falls fast widens the spread, so spikes at the very beginning are missed rather than invented.

    Args:
        values: (steps,) loss or gradient norm.
        window: steps looked back on.
        deviations: robust standard deviations above the median that make a spike.

    Returns:
        (steps,) bool. Raises TooFewRows where no step can be judged.
    """
    if values.ndim != 1:
        raise ValueError(f"expected (steps,), got {tuple(values.shape)}")
    if len(values) <= LEAST_PAST:
        raise TooFewRows(f"expected more than {LEAST_PAST} steps, got {len(values)}")
    values = values.double()
    found = ~values.isfinite()
    for step in range(LEAST_PAST, len(values)):
        past = values[max(0, step - window) : step]
        past = past[past.isfinite()]
        if len(past) < LEAST_PAST or found[step]:
            continue
        centre = past.median()
        spread = MAD_TO_STD * (past - centre).abs().median()
        found[step] = values[step] > centre + deviations * torch.maximum(spread, 1e-6 * centre.abs())
    return found


def spike_score(
    loss: torch.Tensor, grad_norm: torch.Tensor, window: int = WINDOW, deviations: float = DEVIATIONS
) -> torch.Tensor:
    """Share of the steps whose loss or gradient norm is a spike (see ``spikes``), scalar float64 in 0..1."""
    if loss.shape != grad_norm.shape or not len(loss):
        raise ValueError(f"expected two (steps,) tensors, got {tuple(loss.shape)} and {tuple(grad_norm.shape)}")
    either = spikes(loss, window, deviations) | spikes(grad_norm, window, deviations)
    return either.double().mean()


def count_spikes(loss: torch.Tensor, window: int = WINDOW, deviations: float = DEVIATIONS) -> torch.Tensor:
    """Number of loss spikes, scalar int64: spikes in a row are one (cf. PaLM, arXiv 2204.02311, section 5.1)."""
    found = spikes(loss, window, deviations)
    before = torch.cat([torch.zeros(1, dtype=torch.bool), found[:-1]])
    return (found & ~before).sum()


def grad_norm_quantile(loss: torch.Tensor, grad_norm: torch.Tensor, share: float) -> torch.Tensor:
    """Gradient norm (steps,) below which ``share`` of the steps lie: one that really occurred, scalar float64.

    Infinite where it was not finite. ``loss`` is not looked at.
    """
    return torch.quantile(grad_norm.double().nan_to_num(nan=torch.inf, posinf=torch.inf), share, interpolation="higher")


def diverged(loss: torch.Tensor, grad_norm: torch.Tensor) -> torch.Tensor:
    """Whether a run failed: a loss or gradient norm is not finite, or the loss ends above all it began with.

    The beginning is the largest loss of the first twentieth of the steps, so that a run that merely learns nothing
    has not diverged; the end is the median over the last tenth.

    Args:
        loss: (steps,).
        grad_norm: (steps,).

    Returns:
        scalar float64, 1 or 0; its mean over runs is the divergence rate.
    """
    if loss.shape != grad_norm.shape or not len(loss):
        raise ValueError(f"expected two (steps,) tensors, got {tuple(loss.shape)} and {tuple(grad_norm.shape)}")
    finite = loss.isfinite().all() & grad_norm.isfinite().all()
    start = loss[: max(1, round(START * len(loss)))].max()
    end = loss[-max(1, round(END * len(loss))) :].median()
    return (~finite | (end > start)).double()
