"""Coarse items for any labelled corpus: which of four confusable labels does the text have?

The same construction as ``intent``: labels fall into confusion sets of four or more whose training texts are alike,
and wrong options come from the set of the right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ecr_bench.items.intent import labelled_items
from ecr_bench.types import Item


def build(
    frame: pd.DataFrame, *, split: str, languages: Sequence[str], count: int, seed: int, pairs: Sequence[str]
) -> list[Item]:
    """Label items of ``languages``, all labels as evenly as the rows allow. UserError under four labels."""
    return labelled_items(frame, task="label", split=split, languages=languages, count=count, seed=seed)
