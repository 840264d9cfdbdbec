"""Which rows of a corpus are looked at."""

from __future__ import annotations

import pandas as pd


def balanced_sample(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most ``count`` rows, as evenly over languages as they allow; deterministic for ``seed``."""
    shuffled = rows.sample(frac=1.0, random_state=seed)
    rank = shuffled.groupby("lang").cumcount()
    return shuffled.iloc[rank.argsort(kind="stable")[:count]]
