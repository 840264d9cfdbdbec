"""Stability of a training run, from the loss and gradient norm of its steps. No permutation null: order is the point.

They are fed step by step, so a Lightning callback can hold them; ``torch.tensor`` of one step has shape (1,).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ecr_bench.metrics.base import BenchMetric
from ecr_bench.metrics.functional import stability


class GradNormMedian(BenchMetric):
    """Median gradient norm over steps, a step that really occurred; infinite where it was not finite.

    As input to ``update``: ``loss`` and ``grad_norm`` (steps,). Output: a scalar.

    Example:
        >>> import torch
        >>> metric = GradNormMedian()
        >>> metric.update(torch.zeros(3), torch.tensor([1.0, 9.0, 2.0]))
        >>> float(metric.compute())
        2.0
    """

    higher_is_better: bool | None = None
    rows = ("loss", "grad_norm")
    q: ClassVar[float] = 0.5

    def compute(self) -> torch.Tensor:
        _, norms = self.gathered()
        return torch.quantile(norms.double().nan_to_num(torch.inf), self.q, interpolation="higher")


class GradNormP95(GradNormMedian):
    """95 % quantile of the gradient norm over steps; input as for ``GradNormMedian``."""

    q: ClassVar[float] = 0.95


class GradNormMax(GradNormMedian):
    """Largest gradient norm of all steps; input as for ``GradNormMedian``."""

    q: ClassVar[float] = 1.0


class SpikeScore(BenchMetric):
    """Share of steps with a spike in loss or gradient norm; see ``functional.stability.spike_score``.

    As input to ``update``: ``loss`` and ``grad_norm`` (steps,), in order. Output: a scalar in 0..1.

    Example:
        >>> import torch
        >>> loss = 2 + 0.1 * torch.arange(100).sin()
        >>> loss[60] = 9
        >>> metric = SpikeScore()
        >>> metric.update(loss, torch.ones(100))
        >>> round(float(metric.compute()), 4)
        0.01
    """

    higher_is_better: bool = False
    rows = ("loss", "grad_norm")

    def __init__(self, window: int = stability.WINDOW, deviations: float = stability.DEVIATIONS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window, self.deviations = window, deviations

    def compute(self) -> torch.Tensor:
        loss, grad_norm = self.gathered()
        return stability.spike_score(loss, grad_norm, self.window, self.deviations)


class LossSpikes(SpikeScore):
    """Number of loss spikes; see ``functional.stability.count_spikes``. Input as for ``SpikeScore``.

    Example:
        >>> import torch
        >>> loss = 2 + 0.1 * torch.arange(100).sin()
        >>> loss[60:63] = 9
        >>> metric = LossSpikes()
        >>> metric.update(loss, torch.ones(100))
        >>> int(metric.compute())
        1
    """

    def compute(self) -> torch.Tensor:
        loss, _ = self.gathered()
        return stability.count_spikes(loss, self.window, self.deviations)


class Diverged(BenchMetric):
    """1 for a run that failed, else 0; see ``functional.stability.diverged``. Input as for ``SpikeScore``.

    Example:
        >>> import torch
        >>> metric = Diverged()
        >>> metric.update(torch.tensor([2.0, 1.0, float("nan")]), torch.ones(3))
        >>> float(metric.compute())
        1.0
    """

    higher_is_better: bool = False
    rows = ("loss", "grad_norm")

    def compute(self) -> torch.Tensor:
        loss, grad_norm = self.gathered()
        return stability.diverged(loss, grad_norm)
