"""What the metrics share: they gather rows, and can say what chance would give."""

from __future__ import annotations

from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null


class BenchMetric(Metric):
    """A torchmetrics Metric whose states are gathered rows; ``rows`` names them.

    Subclasses call a function of ``metrics.functional`` in ``compute`` and its ``_null`` twin in ``null``.
    ``null`` describes the rows this process holds: with several processes, call it where all rows are.
    """

    full_state_update: bool = False
    is_differentiable: bool = False
    rows: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.rows:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, *rows: torch.Tensor) -> None:
        """Add rows: one tensor for each name in ``rows``, of equal length."""
        if len(rows) != len(self.rows):
            raise ValueError(f"expected {len(self.rows)} tensors ({', '.join(self.rows)}), got {len(rows)}")
        for name, tensor in zip(self.rows, rows, strict=True):
            getattr(self, name).append(tensor)

    def gathered(self) -> Any:
        """All rows so far: a tuple of one tensor for each name in ``rows``."""
        return tuple(dim_zero_cat(getattr(self, name)) for name in self.rows)

    def null(self, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
        """Mean, 2.5 % and 97.5 % quantile under the permutation that the functional twin names."""
        raise NotImplementedError
