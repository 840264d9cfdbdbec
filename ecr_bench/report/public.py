"""``ecr-bench eval``: score a saved model on public benchmarks, print the result by language, keep the records."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ecr_bench.ecr.cue import cue_for
from ecr_bench.errors import UserError
from ecr_bench.evaluation.public_families import FAMILIES
from ecr_bench.evaluation.records import write_records
from ecr_bench.io import read_json, write_json
from ecr_bench.runner.public import Evaluation, Prepared, prepare, provenance_of, score
from ecr_bench.statistics.paired import accuracy
from ecr_bench.statistics.panel import build_panel

RECORDS, SUMMARY = "records.parquet", "eval.json"
ALL = "all"


def run_evaluation(asked: Evaluation, out: Path | None, console: Console) -> list[dict[str, Any]]:
    """Score, print and write ``records.parquet`` and ``eval.json``; returns the lines of the table.

    ``out`` None: a folder of its own in ``runs/eval`` for each model, precision and set of documents.
    UserError before anything is scored where ``out`` holds scores of something else.
    """
    prepared = prepare(asked)
    folder = out or Path("runs") / "eval" / prepared.identity
    _check_free(folder, prepared)
    records = score(prepared, console)
    results = summary(records)
    write_records(folder / RECORDS, records)
    write_json(folder / SUMMARY, {**provenance_of(prepared), "results": results})
    print_results(results, prepared, console)
    console.print(f"Written to [bold]{escape(str(folder))}[/]: {RECORDS}, {SUMMARY}", highlight=False, soft_wrap=True)
    return results


def summary(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Accuracy of each task by language and over all (the mean of its languages), with its 95 % interval.

    The interval is over clusters of items (``statistics.paired``); it does not cover seeds.
    """
    lines = []
    for task, rows in records.groupby("task", sort=False):
        parts = [(lang, part) for lang, part in rows.groupby("lang", sort=True)]
        for lang, part in [*parts, (ALL, rows)] if len(parts) > 1 else parts:
            lines.append(_line(str(task), str(lang), part))
    return lines


def _line(task: str, lang: str, records: pd.DataFrame) -> dict[str, Any]:
    panel = build_panel(records)
    first = records.iloc[0]
    found = accuracy(panel, first["arm"], first["precision"], task)
    return {
        "task": task,
        "lang": lang,
        "items": found.n_items,
        "clusters": found.n_clusters,
        "accuracy": found.value,
        "low": found.low,
        "high": found.high,
        "chance": panel.chance(task),
    }


def print_results(results: list[dict[str, Any]], prepared: Prepared, console: Console) -> None:
    """One line per task and language, in %."""
    count = prepared.made_from["control_tokens"]
    title = f"{prepared.asked.model}, {prepared.asked.precision}, {count} control tokens per item: accuracy in %"
    console.print(escape(title), style="bold", highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("task", "language", "items", "accuracy", "95 % interval", "chance", "against chance"):
        table.add_column(
            name, justify="left" if name in ("task", "language", "against chance") else "right", no_wrap=True
        )
    for line in results:
        interval = f"{100 * line['low']:.1f}–{100 * line['high']:.1f}"
        table.add_row(
            line["task"], line["lang"], str(line["items"]), f"{100 * line['accuracy']:.1f}", interval,
            f"{100 * line['chance']:.1f}", against_chance(line), end_section=line["lang"] == ALL,
        )  # fmt: skip
    console.print(table)
    for task in dict.fromkeys(line["task"] for line in results) if count else ():
        cue = cue_for(FAMILIES.get(task).prefix)
        if cue is not None and not cue.fields:
            console.print(f"{task}: its control tokens are null, because no text of it may be looked at")


def against_chance(line: dict[str, Any]) -> str:
    """``above`` or ``below`` where the interval leaves chance out, else that it cannot be told."""
    if line["low"] > line["chance"]:
        return "above"
    return "below" if line["high"] < line["chance"] else "not told apart"


def _check_free(folder: Path, prepared: Prepared) -> None:
    """Before anything is scored: ``folder`` can be written, and what it holds is not of another evaluation."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"--out {folder}: {existing} is not a folder one can write to; choose another")
    if not (folder / SUMMARY).is_file():
        return
    kept = read_json(folder / SUMMARY)
    if not isinstance(kept, dict) or kept.get("identity") != prepared.identity:
        raise UserError(f"--out {folder}: holds the scores of another model, task or setting; choose another folder")
