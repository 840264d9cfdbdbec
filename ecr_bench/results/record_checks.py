"""Per-item records checked against themselves: what each says must follow from what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd

from ecr_bench.arm import Arm
from ecr_bench.results.arms import GROUPS

RESPONDENT = ["cell", "precision"]
ITEM = ["task_name", "item_id"]
OF_THE_ITEM = ["task", "grain", "group", "lang", "target_lang", "cluster", "topic", "gold", "options", "bytes"]
"""The same for an item whoever answers it."""


def first_fault(records: pd.DataFrame, arms: Mapping[str, Arm]) -> str | None:
    """What is wrong with the first record that is wrong, in words; None where all is well."""
    table = records.reset_index(drop=True)
    if fault := next(_whole(table), None):
        return fault
    table = table.assign(options=table["loglikelihoods"].map(len), bytes=table["choice_bytes"].map(tuple))
    checks: tuple[Callable[[pd.DataFrame, Mapping[str, Arm]], Iterator[str]], ...] = (
        _named, _answers, _counted, _once, _same_items,
    )  # fmt: skip
    return next((fault for check in checks for fault in check(table, arms)), None)


def _where(row: pd.Series) -> str:
    return f"cell {row['cell']} in {row['precision']}, item {row['item_id']} of {row['task_name']}"


def _wrong(table: pd.DataFrame, wrong: np.ndarray | pd.Series, says: Callable[[pd.Series], str]) -> Iterator[str]:
    for index in np.flatnonzero(np.asarray(wrong))[:1]:
        row = table.iloc[index]
        yield f"{_where(row)}: {says(row)}"


def _whole(table: pd.DataFrame) -> Iterator[str]:
    """Nothing is left empty."""
    for column in table.columns:
        yield from _wrong(table, table[column].isna(), lambda r, name=column: f"no {name}")  # type: ignore[misc]


def _named(table: pd.DataFrame, arms: Mapping[str, Arm]) -> Iterator[str]:
    """Arms are known, groups exist, a cell is of one arm and seed."""
    yield from _wrong(table, ~table["arm"].isin(list(arms)), lambda r: f"arm {r['arm']!r} is not in the table of arms")
    yield from _wrong(
        table, ~table["group"].isin(GROUPS), lambda r: f"group {r['group']!r} is none of {', '.join(GROUPS)}"
    )
    owners = table.groupby("cell")[["arm", "seed"]].nunique()
    for cell in owners.index[(owners > 1).any(axis=1)][:1]:
        yield f"cell {cell}: is of more than one arm or seed"


def _answers(table: pd.DataFrame, _: Mapping[str, Arm]) -> Iterator[str]:
    """``predicted`` is the first of the highest log-likelihoods and ``correct`` follows from it."""
    if table.empty:
        return
    lengths = table["options"].to_numpy()
    yield from _wrong(table, lengths < 2, lambda r: f"{r['options']} option")
    scores = np.full((len(table), int(lengths.max())), -np.inf)
    scores[np.arange(scores.shape[1]) < lengths[:, None]] = np.concatenate(table["loglikelihoods"].to_list())
    real = np.arange(scores.shape[1]) < lengths[:, None]
    yield from _wrong(table, (real & ~np.isfinite(scores)).any(axis=1), lambda r: "a log-likelihood is not finite")
    yield from _wrong(table, (real & (scores > 0)).any(axis=1), lambda r: "a log-likelihood is above 0")
    gold = table["gold"].to_numpy()
    yield from _wrong(table, (gold < 0) | (gold >= lengths), lambda r: f"gold {r['gold']} of {r['options']} options")
    best = scores.argmax(axis=1)
    yield from _wrong(
        table, table["predicted"] != best,
        lambda r: f"predicted is {r['predicted']}, the highest log-likelihood is that of option {best[r.name]}",
    )  # fmt: skip
    right = best == gold
    yield from _wrong(
        table, table["correct"] != right,
        lambda r: f"correct is {r['correct']}, but option {best[r.name]} is predicted and {r['gold']} is right",
    )  # fmt: skip


def _counted(table: pd.DataFrame, _: Mapping[str, Arm]) -> Iterator[str]:
    lengths = table["choice_bytes"].map(len)
    yield from _wrong(table, lengths != table["options"], lambda r: "options and their bytes differ in number")
    tokens = table["control_tokens"].map(len)
    yield from _wrong(
        table, tokens != table["extra_tokens"],
        lambda r: f"extra_tokens is {r['extra_tokens']}, {len(r['control_tokens'])} are listed",
    )  # fmt: skip


def _once(table: pd.DataFrame, _: Mapping[str, Arm]) -> Iterator[str]:
    yield from _wrong(table, table.duplicated([*RESPONDENT, *ITEM]), lambda r: "answered twice")


def _same_items(table: pd.DataFrame, _: Mapping[str, Arm]) -> Iterator[str]:
    """Every cell answers the same items, and they are the same questions."""
    counts = table.groupby(RESPONDENT, sort=False).size()
    items = table.drop_duplicates(ITEM)
    for (cell, precision), count in counts[counts != len(items)][:1].items():
        mine = table[(table["cell"] == cell) & (table["precision"] == precision)]
        lost = items.merge(mine[ITEM], on=ITEM, how="left", indicator=True)
        row = lost[lost["_merge"] == "left_only"].iloc[0]
        yield f"cell {cell} in {precision}: lacks item {row['item_id']} of {row['task_name']} ({count} of {len(items)})"
    same = table.merge(items[[*ITEM, *OF_THE_ITEM]], on=ITEM, suffixes=("", " first"))
    for column in OF_THE_ITEM:
        differs = same[column] != same[f"{column} first"]
        yield from _wrong(same, differs, partial(_differs, column))


def _differs(column: str, row: pd.Series) -> str:
    return f"{column} is {row[column]!r}, elsewhere {row[f'{column} first']!r}"
