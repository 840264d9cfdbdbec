"""Whether two runs answered the same questions."""

from __future__ import annotations

import pandas as pd

from ecr_bench.io import fingerprint

KEY = ["task_name", "item_id"]
TOLD = ["task", "grain", "group", "lang", "target_lang", "cluster", "topic", "gold"]


def questions(records: pd.DataFrame) -> pd.DataFrame:
    """One row for each item that was answered, by task and id: what records tell of it, whoever answered."""
    table = records.drop_duplicates(KEY).set_index(KEY).sort_index()
    return table[TOLD].assign(options=[",".join(map(str, sizes)) for sizes in table["choice_bytes"]])


def hash_of(items: pd.DataFrame) -> str:
    """Fingerprint of what ``questions`` gave."""
    return fingerprint(items.reset_index().astype(str).to_dict("split")["data"])


def first_gap(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    """The first item in which two sets of questions differ, in words."""
    for index in ours.index.symmetric_difference(theirs.index)[:1]:
        task, item = index
        return f"item {item} of {task} is in one only"
    both = ours.index.intersection(theirs.index)
    unlike = ours.loc[both].astype(str).ne(theirs.loc[both].astype(str))
    task, item = unlike.index[unlike.any(axis=1)][0]
    column = unlike.columns[unlike.loc[(task, item)]][0]
    a, b = (table.loc[(task, item), column] for table in (ours, theirs))
    return f"{column} of item {item} of {task} is {a} in one and {b} in the other"
