"""Shares of simulated draws against what a true share allows."""

from __future__ import annotations

import numpy as np


def within(share: float, low: float, high: float, repeats: int) -> bool:
    """Whether ``share`` of ``repeats`` is one that a true share between ``low`` and ``high`` gives (3 se)."""
    error = 3 * np.sqrt(0.05 * 0.95 / repeats)
    return bool(low - error <= share <= high + error)
