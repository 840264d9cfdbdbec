"""Two arms or cells of finished runs, paired by item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError, unknown
from ecr_bench.formats import seeds
from ecr_bench.results.arms import GROUPS, ordered_precisions
from ecr_bench.results.schema import Diverged, Word
from ecr_bench.statistics.paired import Comparison, compare_respondents
from ecr_bench.statistics.panel import Panel, build_panel

ITEM = ["task_name", "item_id"]
CONTENT = ["task", "lang", "target_lang", "cluster", "gold"]
"""Two runs share an item when its name and all of this agree."""


@dataclass(frozen=True)
class Picked:
    """Cells of one run at one precision: an arm, or one of its cells."""

    name: str
    """Of the arm or cell."""
    arm: Arm
    precision: str
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}, {seeds(len(self.seeds))}"


@dataclass(frozen=True)
class Difference:
    """``a`` minus ``b`` on one task in one group of languages; accuracies from 0 to 1, uncorrected for other tests."""

    group: str
    task: str
    mean_a: float
    mean_b: float
    found: Comparison

    def to_dict(self) -> dict[str, str | float]:
        """One line of ``Run.compare``."""
        found = self.found
        return {
            "group": self.group, "task": self.task, "a": self.mean_a, "b": self.mean_b, "difference": found.value,
            "low": found.low, "high": found.high, "p": found.p, "mcnemar_p": found.mcnemar_p, "mdd": found.mdd,
        }  # fmt: skip


@dataclass(frozen=True)
class OnBoard:
    """What the board of a run says of two arms; None where they do not meet there."""

    p_holm: float | None = None
    """Corrected for the tests of its question."""
    verdict: Word | None = None
    """None also where the board asks the other way round."""


def pick(
    records: pd.DataFrame,
    arms: Mapping[str, Arm],
    name: str,
    precision: str | None,
    where: str,
    diverged: Iterable[Diverged] = (),
) -> Picked:
    """What an arm or cell name stands for, at ``precision`` or the highest there is; UserError lists the names.

    ``where``: the run, for the message. ``diverged``: what has no records in it.
    """
    lost = {row.precision: row.reason for row in diverged if name in (row.cell, str(row.arm))}
    units = records[["cell", "arm", "precision", "seed"]].drop_duplicates()
    mine = units[(units["arm"] == name) | (units["cell"] == name)]
    if mine.empty and lost:
        raise UserError(f"{name} in {where} diverged: {next(iter(lost.values()))}")
    if mine.empty:
        raise unknown(f"arm or cell in {where}", name, {*units["arm"], *units["cell"]})
    present = ordered_precisions(mine["precision"].unique())
    chosen = precision or present[0]
    if chosen not in present and chosen in lost:
        raise UserError(f"{name} in {where} diverged in {chosen}: {lost[chosen]}")
    if chosen not in present:
        raise unknown(f"precision of {name} in {where}", chosen, present)
    seeds = sorted(int(seed) for seed in mine[mine["precision"] == chosen]["seed"])
    return Picked(name, arms[mine["arm"].iloc[0]], chosen, tuple(seeds))


def differences(records: pd.DataFrame, a: Picked, b: Picked) -> list[Difference]:
    """a minus b of one run, on every task in every group of languages."""
    if (a.arm, a.precision, a.seeds) == (b.arm, b.precision, b.seeds):
        raise UserError(f"{a.name} and {b.name} are the same cells in {a.precision}")
    return _differences(records, _units(a, ""), _units(b, ""))


def differences_between(records_a: pd.DataFrame, records_b: pd.DataFrame, a: Picked, b: Picked) -> list[Difference]:
    """The same for arms of two runs, on the items both have; UserError if there are none."""
    keys = [*ITEM, *CONTENT, "group"]
    items = records_a[keys].drop_duplicates().merge(records_b[keys].drop_duplicates(), on=keys)
    if items.empty:
        raise UserError(
            f"{a.name} and {b.name} share no items: compare runs of the same corpus, tasks and seen languages"
        )
    sides = ("a ", "b ")
    frames = [
        _named(frame.merge(items[ITEM], on=ITEM), side)
        for frame, side in zip((records_a, records_b), sides, strict=True)
    ]
    return _differences(pd.concat(frames, ignore_index=True), _units(a, sides[0]), _units(b, sides[1]))


def unpaired(records_a: pd.DataFrame, records_b: pd.DataFrame) -> tuple[int, int]:
    """How many items of each side the other side does not have: they are left out of the comparison."""
    keys = [*ITEM, *CONTENT, "group"]
    items = [records[keys].drop_duplicates() for records in (records_a, records_b)]
    shared = len(items[0].merge(items[1], on=keys))
    return len(items[0]) - shared, len(items[1]) - shared


def _named(records: pd.DataFrame, side: str) -> pd.DataFrame:
    """Arms of two runs kept apart: the same arm may be in both."""
    return records.assign(arm=side + records["arm"].astype(str))


def _units(picked: Picked, side: str) -> set[tuple[str, str, int]]:
    return {(f"{side}{picked.arm}", picked.precision, seed) for seed in picked.seeds}


def _differences(records: pd.DataFrame, a: set[tuple[str, str, int]], b: set[tuple[str, str, int]]) -> list[Difference]:
    result = []
    for group in GROUPS:
        part = records[records["group"] == group]
        if part.empty:
            continue
        panel = build_panel(part)
        rows_a, rows_b = ([row for row, u in enumerate(panel.respondents) if tuple(u) in wanted] for wanted in (a, b))
        for task in panel.tasks:
            found = compare_respondents(panel, rows_a, rows_b, task)
            result.append(Difference(group, task, _mean(panel, rows_a, task), _mean(panel, rows_b, task), found))
    return result


def _mean(panel: Panel, rows: list[int], task: str) -> float:
    return sum(panel.mean(row, task) for row in rows) / len(rows)
