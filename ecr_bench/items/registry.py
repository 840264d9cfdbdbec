"""The tasks by name, and the one way to build their items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ecr_bench.errors import UserError, unknown
from ecr_bench.registry import Registry
from ecr_bench.types import Item

if TYPE_CHECKING:
    import datasets
    import pandas as pd

TASKS = Registry("task")
TASKS.add("intent", "ecr_bench.items.intent:build", "coarse: which of four confusable intents the sentence has")
TASKS.add(
    "label", "ecr_bench.items.label:build", "coarse: which of four confusable labels the text has, any labelled corpus"
)
TASKS.add("slot", "ecr_bench.items.slot:build", "fine: which value of one slot the sentence states")
TASKS.add("meaning", "ecr_bench.items.meaning:build", "fine: which sentence of another language says the same")
TASKS.add("copa", "ecr_bench.items.copa:build", "fine: which of two sentences is the cause or effect (corpus xcopa)")


def build_items(
    task: str,
    rows: datasets.Dataset | pd.DataFrame,
    *,
    split: str,
    languages: Sequence[str],
    count: int,
    seed: int,
    pairs: Sequence[str] = (),
) -> list[Item]:
    """Build at most ``count`` items per language (``meaning``: per language pair such as ``ru-en``).

    Every part of an item except the values that options are named by comes from rows of ``split``. The
    result depends on the seed and the rows, not on the order of rows, languages or pairs. A language gives
    fewer items when its rows are short. Raises UserError for an unknown task, split or language, a count
    below 1, or a corpus the task cannot be asked about.
    """
    from ecr_bench.items.rows import as_frame

    build = TASKS.get(task)
    if count < 1:
        raise UserError(f"items per language: {count} is too few: allowed is 1 or more")
    frame = as_frame(rows)
    known = set(frame["lang"].unique())
    for lang in languages:
        if lang not in known:
            raise unknown("language", lang, known)
    items = build(
        frame, split=split, languages=sorted(set(languages)), count=count, seed=seed, pairs=sorted(set(pairs))
    )
    if not isinstance(items, list) or not all(isinstance(item, Item) for item in items):
        raise UserError(f"task {task!r} must give a list of ecr_bench.types.Item, not {items!r:.60}")
    return items


def document(item: Item) -> dict[str, Any]:
    """What lm-eval sees of an item: its fields and ``prompt``."""
    return {**asdict(item), "prompt": item.prompt}


def task_name(item: Item) -> str:
    """The lm-eval task an item belongs to: ``ecr_intent_de``, ``ecr_slot_ru``, ``ecr_meaning_ru-en``."""
    same = item.lang == item.target_lang
    return f"ecr_{item.task}_{item.lang}" if same else f"ecr_{item.task}_{item.lang}-{item.target_lang}"
