"""From per-item records to a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError, unknown
from ecr_bench.results.arms import GROUPS, aggregate_baselines, costs_of, ordered_precisions
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.contrasts import TASKS, build_contrasts
from ecr_bench.results.floors import define_means_above, floors_of
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Board, BoardRow, Contrast, Diverged, Group, LanguageRow, ScoringRow
from ecr_bench.results.scorings import scoring_rows
from ecr_bench.results.ties import tied_with_best, told_apart
from ecr_bench.results.verdict import build_verdict
from ecr_bench.statistics.multiple import above_chance
from ecr_bench.statistics.paired import accuracy
from ecr_bench.statistics.panel import Panel, build_panel

Baselines = dict[str, dict[str, dict[str, float]]]
"""group -> single task -> surface baseline -> accuracy."""


def build_board(
    name: str,
    records: pd.DataFrame,
    arms: Mapping[str, Arm],
    cells: Sequence[CellCosts],
    baselines: Baselines,
    provenance: dict[str, Any],
    notes: Sequence[str],
) -> Board:
    """Aggregate, compare and judge.

    Args:
        records: one row per cell, precision and item (columns in evaluation/records.py).
        arms: what the ``arm`` column of the records stands for.
        cells: costs of each cell and precision.
        baselines: of the items' surface.

    UserError when cells do not share their items.
    """
    diverged = _diverged(cells)
    if records.empty:
        if diverged:
            raise UserError(f"{name}: every cell diverged: {diverged[0].cell}: {diverged[0].reason}")
        raise UserError("records: no rows; score at least one cell")
    if strange := set(records["group"].unique()) - set(GROUPS):
        raise unknown("group", str(min(strange)), GROUPS)
    present = [arms[name] for name in sorted(records["arm"].unique())]
    cast = Cast.of(present, cells)
    precisions = ordered_precisions(records["precision"].unique())
    rows: list[BoardRow] = []
    languages: list[LanguageRow] = []
    contrasts: list[Contrast] = []
    scorings: list[ScoringRow] = []
    grains: dict[str, str] = {}
    floors: dict[Group, tuple[str, ...]] = {}
    for group in (s for s in GROUPS if (records["group"] == s).any()):
        part = records[records["group"] == group]
        panel = build_panel(part)
        if below := floors_of(panel, present, precisions[0]):
            floors[group] = below
            define_means_above(panel, below)
        mine = build_contrasts(panel, group, cast, precisions)
        extra = _extra_tokens(part)
        for precision in precisions:
            rows += _rows(panel, group, precision, present, cells, extra, mine)
        languages += _language_rows(panel, group, precisions[0], present)
        scorings += scoring_rows(part, arms, group, precisions[0])
        contrasts += mine
        grains |= panel.grain_of
    return Board(
        name=name,
        rows=rows,
        by_language=languages,
        scorings=scorings,
        baselines=aggregate_baselines(baselines, grains),
        floors=floors,
        contrasts=contrasts,
        verdict=build_verdict(contrasts, cast),
        diverged=diverged,
        notes=list(notes),
        provenance=provenance,
    )


def own_baselines(board: Board) -> Baselines:
    """What ``build_board`` was given as ``baselines``: those of single tasks, without the means it adds."""
    return {
        group: {task: numbers for task, numbers in tasks.items() if task not in TASKS}
        for group, tasks in board.baselines.items()
    }


def _diverged(cells: Sequence[CellCosts]) -> list[Diverged]:
    return [
        Diverged(cell=row.cell, arm=row.arm, seed=row.seed, precision=row.precision, reason=row.diverged)
        for row in cells
        if row.diverged
    ]


def _extra_tokens(records: pd.DataFrame) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Sum and count of extra tokens by arm, precision and single task."""
    table = records.groupby(["arm", "precision", "task"])["extra_tokens"].agg(["sum", "count"])
    return {key: (int(total), int(count)) for key, total, count in zip(table.index, *table.to_numpy().T, strict=True)}


def _rows(
    panel: Panel,
    group: Group,
    precision: str,
    arms: Sequence[Arm],
    cells: Sequence[CellCosts],
    extra: Mapping[tuple[str, str, str], tuple[int, int]],
    contrasts: Sequence[Contrast],
) -> list[BoardRow]:
    present = [arm for arm in arms if panel.has(str(arm), precision)]
    ranked = [arm for arm in present if arm.role is not Role.UPPER_BOUND]
    apart = told_apart(contrasts, precision)
    result = []
    for task in panel.tasks:
        tied = tied_with_best(panel, ranked, precision, task, apart)
        single_tasks = [panel.single_tasks[i] for i in panel.single_tasks_of(task)]
        chance = panel.chance(task)
        for arm in present:
            estimate = accuracy(panel, str(arm), precision, task)
            tokens = [extra[str(arm), precision, name] for name in single_tasks]
            costs: dict[str, Any] = costs_of(cells, arm, precision)
            result.append(
                BoardRow(
                    arm=arm,
                    precision=precision,
                    group=group,
                    task=task,
                    mean=estimate.value,
                    ci=(estimate.low, estimate.high),
                    n_items=estimate.n_items,
                    n_seeds=estimate.n_seeds,
                    n_clusters=estimate.n_clusters,
                    covers=estimate.covers,
                    chance=chance,
                    above_chance=above_chance(estimate.value, chance),
                    tied_with_leader=tied.get(arm),
                    extra_tokens_per_item=sum(total for total, _ in tokens) / sum(count for _, count in tokens),
                    **costs,
                )
            )
    return result


def _language_rows(panel: Panel, group: Group, precision: str, arms: Sequence[Arm]) -> list[LanguageRow]:
    """Per language at the reference precision, mean over seeds."""
    result = []
    for arm in (arm for arm in arms if panel.has(str(arm), precision)):
        seeds = [panel.by_language(row) for row in panel.rows(str(arm), precision)]
        for (task, lang), (_, n_items) in seeds[0].items():
            mean = sum(seed[task, lang][0] for seed in seeds) / len(seeds)
            result.append(
                LanguageRow(arm=arm, precision=precision, group=group, task=task, lang=lang, mean=mean, n_items=n_items)
            )
    return result
