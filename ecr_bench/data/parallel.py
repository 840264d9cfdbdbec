"""Sentences that translate each other: the rows on which representations are compared."""

from __future__ import annotations

import pandas as pd

PIVOT = "en"
COLUMNS = ["text", "lang", "meaning", "label", "pair"]


def parallel_rows(frame: pd.DataFrame, per_language: int, seed: int = 0) -> pd.DataFrame:
    """Pairs of a language and the pivot, drawn from validation and test rows.

    Args:
        frame: corpus rows (``types.CORPUS_COLUMNS``).
        per_language: at most this many pairs for each language; a language with fewer shared meanings gives fewer.
        seed: of the draw.

    Returns a DataFrame with ``COLUMNS``; ``pair`` numbers the pairs from 0, and rows 2 i and 2 i + 1 are pair i
    (the language first, then the pivot). The pivot is English, or without it the language with most held-out
    rows. A meaning occurs at most once a language; the pivot's row of a meaning is the same for all languages.
    """
    return paired_rows(frame[frame["split"] != "train"], per_language, seed)


def paired_rows(frame: pd.DataFrame, per_language: int, seed: int = 0) -> pd.DataFrame:
    """``parallel_rows`` of all rows of ``frame``, whatever their split."""
    shuffled = frame.sort_values("id").sample(frac=1.0, random_state=seed)
    rows = shuffled.drop_duplicates(["lang", "meaning"])
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    pivot = pivot_of(rows)
    pivots = rows[rows["lang"] == pivot].set_index("meaning")
    others = rows[(rows["lang"] != pivot) & rows["meaning"].isin(pivots.index)]
    chosen = others[others.groupby("lang").cumcount() < per_language].sort_values(["lang", "id"])
    pairs = chosen.assign(pair=range(len(chosen)), side=0)
    twins = pivots.loc[chosen["meaning"]].reset_index().assign(pair=range(len(chosen)), side=1)
    return pd.concat([pairs, twins]).sort_values(["pair", "side"])[COLUMNS].reset_index(drop=True)


def pivot_of(rows: pd.DataFrame) -> str:
    """English where there is any, else the language with most ``rows``."""
    counts = rows["lang"].value_counts()
    return PIVOT if PIVOT in counts else str(min(counts[counts == counts.max()].index))
