"""Fine items of two options: which sentence is the cause, or the effect, of the text (corpus ``xcopa``)?"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pandas as pd

from ecr_bench.errors import UserError
from ecr_bench.items.rows import by, interleave, place, select
from ecr_bench.types import Item


def build(
    frame: pd.DataFrame, *, split: str, languages: Sequence[str], count: int, seed: int, pairs: Sequence[str]
) -> list[Item]:
    """At most ``count`` items a language, causes and effects evenly. UserError for a corpus without choices."""
    rows = [row for row in select(frame, split, languages) if {"right", "wrong"} <= row.values.keys()]
    if not rows:
        raise UserError(f"task 'copa': no {split} row has the slots right and wrong; it is made for corpus xcopa")
    by_lang = by(rows, lambda row: row.lang)
    items = []
    for lang in languages:
        rng = random.Random(f"{seed}/copa/{split}/{lang}")
        for row in interleave(by_lang.get(lang, []), [lambda row: row.label], rng)[:count]:
            choices, gold = place(row.values["right"], [row.values["wrong"]], rng)
            items.append(
                Item(
                    item_id=f"copa/{row.id}",
                    task="copa",
                    grain="fine",
                    cluster=row.meaning,
                    lang=lang,
                    target_lang=lang,
                    text=row.text,
                    question=f"{row.label}:",
                    choices=choices,
                    gold=gold,
                    topic=row.label,
                )
            )
    return items
