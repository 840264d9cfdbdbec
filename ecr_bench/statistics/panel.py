"""Per-item records as one array of respondents x items, and the macro mean used everywhere on a board.

A *respondent* is one trained cell scored at one precision: (arm, precision, seed). An *arm* is a method at a size.
All respondents of a panel answered the same items, so every difference is paired.

Macro mean: items -> mean over the items of a language (a language pair, where options are in another language)
-> mean over languages within a task -> mean over tasks. A language or a task with more items does not weigh more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from ecr_bench.errors import UserError, unknown

GRAINS = ("coarse", "fine")
REQUIRED = ("arm", "precision", "seed", "task", "task_name", "grain", "lang", "target_lang")


class Respondent(NamedTuple):
    arm: str
    """Printed form of an arm: a key, never cut (arm.py)."""
    precision: str
    seed: int


@dataclass(eq=False)
class Panel:
    """Respondents x items of one group of languages.

    ``correct``: (R, I) float32 of 0/1; ``items``: I rows with ``task, grain, stratum, lang, target_lang, cluster,
    topic, chance``.
    """

    respondents: list[Respondent]
    correct: np.ndarray
    items: pd.DataFrame
    means: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further means that can be asked for: name -> single tasks. May grow (``define``)."""
    row_of: dict[Respondent, int] = field(init=False)
    _influence: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _items: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _clusters: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _covariance: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.row_of = {respondent: row for row, respondent in enumerate(self.respondents)}
        grains = self.items.groupby("task", sort=True)["grain"].agg(["first", "nunique"])
        if mixed := list(grains.index[grains["nunique"] > 1]):
            raise UserError(f"records: task {mixed[0]!r} has items of both grains: a task is coarse or fine")
        self.single_tasks = list(grains.index)
        self.grain_of = dict(grains["first"])

    @property
    def tasks(self) -> list[str]:
        """What can be asked for: ``coarse`` and ``fine`` where present, each single task, ``all``, further means."""
        present = [grain for grain in GRAINS if grain in self.grain_of.values()]
        return [*present, *self.single_tasks, "all", *self.means]

    def define(self, name: str, single_tasks: Iterable[str]) -> None:
        """Let ``name`` be asked for: the mean over some single tasks."""
        self.means[name] = tuple(single_tasks)

    def single_tasks_of(self, task: str) -> list[int]:
        """Columns of ``task_means`` that the mean called ``task`` averages."""
        if task == "all":
            return list(range(len(self.single_tasks)))
        if task in self.means:
            return [i for i, name in enumerate(self.single_tasks) if name in self.means[task]]
        chosen = [i for i, name in enumerate(self.single_tasks) if task in (name, self.grain_of[name])]
        if not chosen:
            raise unknown("task", task, self.tasks)
        return chosen

    @cached_property
    def strata(self) -> list[tuple[int, str, np.ndarray]]:
        """(task column, language label, item positions) of every language within every task."""
        groups = self.items.groupby(["task", "stratum"], sort=True).indices
        column = {name: i for i, name in enumerate(self.single_tasks)}
        return [(column[task], stratum, rows) for (task, stratum), rows in groups.items()]

    def _macro(self, per_stratum: list[np.ndarray]) -> np.ndarray:
        """Mean over languages within each task: list of (R, ...) -> (R, F, ...)."""
        columns = np.array([column for column, _, _ in self.strata])
        stacked = np.stack(per_stratum, axis=1)
        return np.stack([stacked[:, columns == i].mean(axis=1) for i in range(len(self.single_tasks))], axis=1)

    @cached_property
    def task_means(self) -> np.ndarray:
        """(R, F) accuracy by single task, mean over languages."""
        return self._macro([self.correct[:, rows].mean(axis=1, dtype=np.float64) for _, _, rows in self.strata])

    def mean(self, row: int, task: str) -> float:
        """Macro accuracy of respondent ``row`` on ``task``."""
        return float(self.task_means[row, self.single_tasks_of(task)].mean())

    @cached_property
    def _cluster_codes(self) -> tuple[np.ndarray, int]:
        """(I,) number of each item's cluster, and how many there are."""
        codes, names = pd.factorize(self.items["cluster"])
        return codes, len(names)

    @cached_property
    def _influence_by_task(self) -> np.ndarray:
        """(F, R, K) what each cluster moves each ``task_means`` by; rows sum to 0."""
        codes, n_clusters = self._cluster_codes
        languages = np.bincount([column for column, _, _ in self.strata])
        result = np.zeros((len(self.single_tasks), len(self.respondents), n_clusters))
        for column, _, rows in self.strata:
            present, place = np.unique(codes[rows], return_inverse=True)
            deviations = self.correct[:, rows] - self.correct[:, rows].mean(axis=1, dtype=np.float64, keepdims=True)
            scale = unbiased(len(present)) / (len(rows) * languages[column])
            result[column][:, present] += scale * summed(deviations, place, len(present))
        return result

    def influence(self, task: str) -> np.ndarray:
        """(R, K) what each cluster moves ``mean(row, task)`` by, scaled to an unbiased variance.

        The cross products of its rows are the covariances of the respondents over clusters drawn anew, to first order
        what a cluster bootstrap gives (linearisation: Binder 1983, Int. Stat. Rev. 51).
        """
        if task not in self._influence:
            self._influence[task] = self._influence_by_task[self.single_tasks_of(task)].mean(axis=0)
        return self._influence[task]

    def covariance(self, task: str) -> np.ndarray:
        """(R, R) covariance of the respondents' means on ``task`` over clusters drawn anew."""
        if task not in self._covariance:
            influence = self.influence(task)
            self._covariance[task] = influence @ influence.T
        return self._covariance[task]

    def item_rows(self, task: str) -> np.ndarray:
        """Positions of the items behind ``task``."""
        if task not in self._items:
            single_tasks = [self.single_tasks[i] for i in self.single_tasks_of(task)]
            self._items[task] = np.flatnonzero(self.items["task"].isin(single_tasks).to_numpy())
        return self._items[task]

    def n_clusters(self, task: str) -> int:
        if task not in self._clusters:
            self._clusters[task] = int(self.items["cluster"].iloc[self.item_rows(task)].nunique())
        return self._clusters[task]

    def chance(self, task: str) -> float:
        """Macro mean of 1 / number of options."""
        values = self.items["chance"].to_numpy(dtype=np.float64)[None]
        by_task = self._macro([values[:, rows].mean(axis=1) for _, _, rows in self.strata])
        return float(by_task[0, self.single_tasks_of(task)].mean())

    def seeds(self, arm: str, precision: str) -> list[int]:
        return sorted(one.seed for one in self.respondents if (one.arm, one.precision) == (arm, precision))

    def rows(self, arm: str, precision: str) -> list[int]:
        """Rows of ``arm`` at ``precision`` in order of seed; UserError if there are none."""
        rows = [self.row_of[Respondent(arm, precision, seed)] for seed in self.seeds(arm, precision)]
        if not rows:
            raise unknown("arm", f"{arm} in {precision}", {f"{one.arm} in {one.precision}" for one in self.respondents})
        return rows

    def has(self, arm: str, precision: str) -> bool:
        return any((one.arm, one.precision) == (arm, precision) for one in self.respondents)

    def by_language(self, row: int) -> dict[tuple[str, str], tuple[float, int]]:
        """(single task, language of the text) -> (mean over its pairs, items) of one respondent."""
        languages = self.items["lang"].to_numpy()
        found: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for column, _, rows in self.strata:
            pair = (float(self.correct[row, rows].mean()), len(rows))
            found.setdefault((self.single_tasks[column], str(languages[rows[0]])), []).append(pair)
        return {key: (float(np.mean([m for m, _ in v])), sum(n for _, n in v)) for key, v in found.items()}


def unbiased(n: int) -> float:
    """Factor on deviations from the mean of ``n`` draws that makes their squares unbiased; 1 for a single draw."""
    return float(np.sqrt(n / (n - 1))) if n > 1 else 1.0


def summed(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """(..., I) values and (I,) numbers of their groups to (..., n_groups) sums."""
    members = csr_matrix((np.ones(len(groups)), (np.arange(len(groups)), groups)), (len(groups), n_groups))
    return np.asarray(values @ members)


def build_panel(records: pd.DataFrame) -> Panel:
    """Pivot the records of one group of languages. UserError if a cell was scored twice or cells have other items."""
    if missing := [name for name in (*REQUIRED, "item_id", "cluster", "correct") if name not in records.columns]:
        raise UserError(
            f"records: no column {missing[0]!r}; needed are {', '.join(REQUIRED)}, item_id, cluster, correct"
        )
    if records.empty:
        raise UserError("records: no rows; score at least one cell")
    keys = pd.MultiIndex.from_frame(records[["task_name", "item_id"]])
    item_codes, item_keys = pd.factorize(keys, sort=True)
    respondent_of_row = [Respondent(arm, precision, int(seed)) for arm, precision, seed in _respondent_columns(records)]
    respondents = sorted(set(respondent_of_row))
    row_of = {respondent: row for row, respondent in enumerate(respondents)}
    rows = np.fromiter((row_of[one] for one in respondent_of_row), dtype=np.int64, count=len(respondent_of_row))
    _check_complete(respondents, rows, item_codes, item_keys)
    correct = np.zeros((len(respondents), len(item_keys)), dtype=np.float32)
    correct[rows, item_codes] = records["correct"].to_numpy(dtype=np.float32)
    first = np.zeros(len(item_keys), dtype=np.int64)
    first[item_codes[::-1]] = np.arange(len(records))[::-1]
    return Panel(respondents, correct, _items(records.iloc[first]))


def _respondent_columns(records: pd.DataFrame) -> zip[tuple[str, str, int]]:
    return zip(*(records[name].tolist() for name in ("arm", "precision", "seed")), strict=True)


def _items(rows: pd.DataFrame) -> pd.DataFrame:
    same = rows["lang"] == rows["target_lang"]
    options = rows["loglikelihoods"].map(len) if "loglikelihoods" in rows else pd.Series(np.inf, index=rows.index)
    table = rows[["task", "grain", "lang", "target_lang", "cluster"]].astype(str)
    table["topic"] = rows["topic"].astype(str) if "topic" in rows else ""
    table["stratum"] = np.where(same, rows["lang"], rows["lang"].astype(str) + "->" + rows["target_lang"].astype(str))
    table["chance"] = 1.0 / options
    return table.reset_index(drop=True)


def _check_complete(respondents: list[Respondent], rows: np.ndarray, items: np.ndarray, keys: pd.MultiIndex) -> None:
    counts = np.zeros((len(respondents), len(keys)), dtype=np.int32)
    np.add.at(counts, (rows, items), 1)
    bad = np.argwhere(counts != 1)
    if len(bad):
        row, item = bad[0]
        respondent, problem = respondents[row], "twice" if counts[row, item] > 1 else "not at all"
        raise UserError(
            f"records: {respondent.arm} in {respondent.precision}, seed {respondent.seed}, answers item "
            f"{keys[item][1]!r} of task {keys[item][0]!r} {problem}: every cell must answer the same items once"
        )
