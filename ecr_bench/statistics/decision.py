"""The one rule that turns an effect and its p-values into a verdict."""

from __future__ import annotations

import math
from typing import Literal

from ecr_bench.statistics.interval import ALPHA

Answer = Literal["supported", "refuted", "inconclusive"]


def decide(
    effect: float, p: float, *, null: float = 0.0, smallest: float = -math.inf, p_smaller: float = 1.0
) -> Answer:
    """Verdict on 'the effect exceeds ``null``', where more is better.

    ``p``: corrected p-value of effect = null; ``p_smaller``: of effect = ``smallest``, the smallest effect of
    interest. Refuted needs evidence: the opposite is significant, or the effect is significantly below ``smallest``
    (also where it is significantly above null: real, but too small to matter). A wide interval refutes nothing.
    """
    if (effect < smallest and p_smaller < ALPHA) or (effect < null and p < ALPHA):
        return "refuted"
    return "supported" if effect > null and p < ALPHA else "inconclusive"
