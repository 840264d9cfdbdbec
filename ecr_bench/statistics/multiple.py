"""Tests that need no model of the data: Holm's correction, exact McNemar, chance correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given (Holm 1979, Scand. J. Stat. 6): controls the family-wise error."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided exact McNemar p-value of two 0/1 arrays of the same shape (McNemar 1947, Psychometrika 12).

    It treats answers as independent: items of one cluster, and one item under two seeds, make it optimistic.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    # twice the smaller tail: what scipy.stats.binomtest gives for p = 1/2, at a hundredth of its time
    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def above_chance(accuracy: float, chance: float) -> float:
    """Share of the way from guessing (0) to perfect (1); below 0 is worse than guessing. Chance 1 gives 0."""
    return (accuracy - chance) / (1.0 - chance) if chance < 1.0 else 0.0
