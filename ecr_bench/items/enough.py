"""Whether rows are enough for the questions an experiment asks of them, and what is missing where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ecr_bench.corpora.draw import LEAST_TEST, LEAST_VALIDATION, VALIDATION_SHARE
from ecr_bench.errors import UserError
from ecr_bench.items.pairs import pairs as language_pairs
from ecr_bench.items.registry import build_items


@dataclass(frozen=True)
class WantedItems:
    """What an experiment asks of its corpus."""

    tasks: tuple[str, ...]
    seen: tuple[str, ...]
    """Languages with labelled training and validation items."""
    pairs: tuple[str, ...]
    """Kinds of language pairs (``items.pairs``)."""


def check_languages(seen: Sequence[str], languages: Sequence[str]) -> None:
    """UserError where a seen language has no text."""
    if missing := sorted(set(seen) - set(languages)):
        raise UserError(f"seen_languages: no text in {', '.join(missing)}: the corpus has {', '.join(languages)}")


def check_enough(frame: pd.DataFrame, asked: WantedItems) -> None:
    """One item of each task in training and in the test, and one of any task in validation.

    Args:
        frame: corpus rows (``types.CORPUS_COLUMNS``).
        asked: by the experiment.

    UserError says which items are missing, why, and how many rows are needed.
    """
    languages = sorted(frame["lang"].unique())
    check_languages(asked.seen, languages)
    across = language_pairs(languages, asked.pairs)
    within = [f"{a}-{b}" for a in asked.seen for b in asked.seen if a != b]
    validated = []
    for task in asked.tasks:
        found = {
            split: build_items(task, frame, split=split, languages=names, count=1, seed=0, pairs=pairs)
            for split, names, pairs in (
                ("train", asked.seen, within), ("validation", asked.seen, within), ("test", languages, across),
            )
        }  # fmt: skip
        lacking = [split for split, items in found.items() if not items]
        validated += found["validation"]
        if "train" in lacking or "test" in lacking:
            raise UserError(f"task {task!r}: {_missing(frame, lacking, asked.seen, across, task)}")
    if not validated:
        first = asked.tasks[0]
        raise UserError(f"task {first!r}: {_missing(frame, ['validation'], asked.seen, within, first)}")


def _missing(frame: pd.DataFrame, lacking: Sequence[str], seen: Sequence[str], pairs: Sequence[str], task: str) -> str:
    """Why there are no items of ``task`` in the splits ``lacking``, as far as rows and their columns can tell."""
    head = f"no {' and no '.join(f'{split} items' for split in lacking)}: "
    for split in lacking:
        rows = frame[(frame["split"] == split) & (frame["lang"].isin(list(seen)) | (split == "test"))]
        if rows.empty:
            least = LEAST_TEST if split == "test" else LEAST_VALIDATION
            where = "" if split == "test" else f" in {', '.join(seen)}"
            return head + (
                f"there are no {split} rows{where}; a language needs {least} rows or more (groups, where rows share a "
                "meaning or unit), or a column 'split' that names them"
            )
    if task == "meaning":
        if not pairs:
            return head + "scoring.pairs gives no pair of its languages (to-en and from-en need English)"
        return (
            head + "no row has a translation and three other sentences to tell it from; give more rows with 'meaning'"
        )
    labelled = set(frame.loc[frame["split"] == "train", "label"])
    rows = frame[frame["split"].isin(list(lacking))]
    if not rows["label"].isin(labelled).any():
        most = int(frame["label"].value_counts().iloc[0])
        return head + (
            f"none of the {len(rows):,} rows there has a label that training has; the commonest label has {most:,} of "
            f"{len(frame):,} rows: needed are 2 or more, and {round(1 / VALIDATION_SHARE)} for one of it in validation"
        )
    return head + f"none of the {len(rows):,} rows there can be asked about; give more rows"
