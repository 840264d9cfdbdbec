"""What one call of the trainer leaves behind."""

from __future__ import annotations

from ecr_bench.section import Section


class Fitted(Section):
    """Plain numbers of a training run; a loss or norm is None where it was not finite."""

    train_seconds: float
    steps: int
    tokens: int
    """Tokens seen, padding excluded."""
    train_loss: float | None
    """Mean of the last 20 steps, nats per token."""
    val_loss: float | None
    grad_norm_median: float | None
    grad_norm_max: float | None
    finite: bool
    """Whether the loss of every step was finite."""
    peak_memory: int
    """Bytes."""
    diverged: str = ""
    """Why there is nothing to go on with (``ecr_bench.divergence``); empty where the model is sound."""
