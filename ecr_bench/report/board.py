"""From per-item records to a board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ecr_bench.errors import UserError, unknown
from ecr_bench.report.arms import (
    SPLITS,
    aggregate_baselines,
    describe,
    label_cells,
    normalise_baselines,
    ordered_precisions,
    ordered_sizes,
)
from ecr_bench.report.contrasts import build_contrasts
from ecr_bench.report.schema import Board, Contrast, LanguageRow, Row, write_board
from ecr_bench.report.verdict import build_verdict
from ecr_bench.statistics.multiple import above_chance
from ecr_bench.statistics.paired import accuracy, tied_with_leader
from ecr_bench.statistics.panel import Panel, arm_name, build_panel
from ecr_bench.statistics.roles import UPPER_BOUNDS

__all__ = ["build_board", "write_board"]

Arms = list[tuple[str, str]]


def build_board(
    name: str,
    records: pd.DataFrame,
    cells: Sequence[dict[str, Any]],
    baselines: dict[Any, Any],
    provenance: dict[str, Any],
    notes: Sequence[str],
) -> Board:
    """Aggregate, compare and judge.

    ``records``: one row per cell, precision and item (columns in evaluation/records.py). ``cells``: one mapping per
    cell and precision with ``cell, method, size, seed, precision`` and, where measured, ``parameters,
    side_parameters, bytes, side_bytes, ms_per_item`` and ``overrides`` (dotted key -> value). ``baselines``: surface
    baselines keyed by (task, split), or nested. UserError when cells do not share their items.
    """
    if records.empty:
        raise UserError("records: no rows; score at least one cell")
    if strange := set(records["group"].unique()) - set(SPLITS):
        raise unknown("split", str(min(strange)), SPLITS)
    records, named = label_cells(records, list(cells))
    arms: Arms = sorted(set(zip(records["method"].astype(str), records["size"].astype(str), strict=True)))
    sizes = ordered_sizes(records, named)
    precisions = ordered_precisions(set(records["precision"].unique()))
    rows: list[Row] = []
    languages: list[LanguageRow] = []
    contrasts: list[Contrast] = []
    grains: dict[str, str] = {}
    for split in (s for s in SPLITS if (records["group"] == s).any()):
        part = records[records["group"] == split]
        panel = build_panel(part)
        extra = _extra_tokens(part)
        for precision in precisions:
            rows += _rows(panel, split, precision, arms, named, extra)
        languages += _language_rows(panel, split, precisions[0], arms)
        contrasts += build_contrasts(panel, split, sizes, precisions)
        grains |= panel.grain_of
    return Board(
        name=name,
        rows=rows,
        by_language=languages,
        baselines=aggregate_baselines(normalise_baselines(baselines), grains),
        contrasts=contrasts,
        verdict=build_verdict(contrasts),
        notes=list(notes),
        provenance=provenance,
    )


def _extra_tokens(records: pd.DataFrame) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Sum and count of extra tokens by arm, precision and task family."""
    arm = records["method"].astype(str) + "-" + records["size"].astype(str)
    table = records.groupby([arm, "precision", "task"])["extra_tokens"].agg(["sum", "count"])
    return {key: (int(total), int(count)) for key, total, count in zip(table.index, *table.to_numpy().T, strict=True)}


def _rows(
    panel: Panel,
    split: str,
    precision: str,
    arms: Arms,
    cells: list[dict[str, Any]],
    extra: dict[tuple[str, str, str], tuple[int, int]],
) -> list[Row]:
    present = [(m, s) for m, s in arms if panel.has(arm_name(m, s), precision)]
    ranked = [arm_name(m, s) for m, s in present if m.split("[")[0] not in UPPER_BOUNDS]
    result = []
    for task in panel.tasks:
        tied = tied_with_leader(panel, ranked, precision, task)
        families = [panel.families[i] for i in panel.families_of(task)]
        chance = panel.chance(task)
        for method, size in present:
            arm = arm_name(method, size)
            estimate = accuracy(panel, arm, precision, task)
            tokens = [extra[arm, precision, family] for family in families]
            result.append(
                Row.model_validate(
                    {
                        "method": method,
                        "size": size,
                        "precision": precision,
                        "split": split,
                        "task": task,
                        "mean": estimate.value,
                        "ci": (estimate.low, estimate.high),
                        "n_items": estimate.n_items,
                        "n_seeds": estimate.n_seeds,
                        "n_clusters": estimate.n_clusters,
                        "covers": estimate.covers,
                        "chance": chance,
                        "above_chance": above_chance(estimate.value, chance),
                        "tied_with_leader": tied.get(arm),
                        "extra_tokens_per_item": sum(total for total, _ in tokens) / sum(count for _, count in tokens),
                        **describe(cells, method, size, precision),
                    }
                )
            )
    return result


def _language_rows(panel: Panel, split: str, precision: str, arms: Arms) -> list[LanguageRow]:
    """Per language at the reference precision, mean over seeds."""
    result = []
    for method, size in arms:
        arm = arm_name(method, size)
        if not panel.has(arm, precision):
            continue
        seeds = [panel.by_language(row) for row in panel.rows(arm, precision)]
        for (task, lang), (_, n_items) in seeds[0].items():
            mean = sum(seed[task, lang][0] for seed in seeds) / len(seeds)
            result.append(
                LanguageRow.model_validate(
                    {
                        "method": method,
                        "size": size,
                        "precision": precision,
                        "split": split,
                        "task": task,
                        "lang": lang,
                        "mean": mean,
                        "n_items": n_items,
                    }
                )
            )
    return result
