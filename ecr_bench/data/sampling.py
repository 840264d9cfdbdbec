"""Which rows of a corpus are looked at."""

from __future__ import annotations

import pandas as pd

HELD_OUT = 2000


def balanced_sample(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most ``count`` rows, as evenly over languages as they allow; deterministic for ``seed``."""
    shuffled = rows.sample(frac=1.0, random_state=seed)
    rank = shuffled.groupby("lang").cumcount()
    return shuffled.iloc[rank.argsort(kind="stable")[:count]]


def teacher_texts(rows: pd.DataFrame, count: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that a teacher is asked about: at most ``count`` training rows, and ``HELD_OUT`` others."""
    train, held_out = rows[rows["split"] == "train"], rows[rows["split"] != "train"]
    return balanced_sample(train, count, seed), balanced_sample(held_out, HELD_OUT, seed)
