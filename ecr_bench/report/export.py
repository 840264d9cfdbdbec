"""A finished board in other formats: Markdown, CSV, Parquet, and Hugging Face model-index YAML for one cell or arm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from ecr_bench.errors import UserError, unknown
from ecr_bench.evaluation.records import read_records
from ecr_bench.io import atomic_path, write_text
from ecr_bench.metrics.files import finished_measures
from ecr_bench.report.arms import SPLITS
from ecr_bench.report.claims import read_claims
from ecr_bench.report.compare import pick
from ecr_bench.report.markdown import to_markdown
from ecr_bench.report.schema import Board
from ecr_bench.statistics.panel import Unit, arm_name, build_panel

FORMATS = ("terminal", "markdown", "csv", "parquet", "model-index")


def export_board(folder: Path, board: Board, format: str, cell: str | None, to: Path | None) -> None:
    """Write ``board`` to ``to``, or to standard output where the format is text. UserError for what does not fit."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if (cell is None) == (format == "model-index"):
        needs = "needs --cell, for example --cell ecr-1x-s0" if cell is None else "takes no --cell"
        raise UserError(f"--format {format} {needs}")
    if format == "parquet":
        if to is None:
            raise UserError("--format parquet needs --to FILE")
        with atomic_path(to) as temporary:
            rows_table(board).to_parquet(temporary, index=False)
        return
    if format == "model-index":
        text = model_index(board, read_records(folder / "records.parquet"), str(cell), folder)
    else:
        markdown = format == "markdown"
        whole = to_markdown(board, finished_measures(folder), read_claims(folder))
        text = whole if markdown else rows_table(board).to_csv(index=False)
    if to is None:
        sys.stdout.write(text)
    else:
        write_text(to, text)


def rows_table(board: Board) -> pd.DataFrame:
    """The rows of a board, one line per arm, precision, split and task; intervals as ``ci_low`` and ``ci_high``."""
    lines = []
    for row in board.rows:
        fields = {"run": board.name, "arm": arm_name(row.method, row.size), **row.model_dump(mode="json")}
        fields["ci_low"], fields["ci_high"] = fields.pop("ci")
        lines.append(fields)
    return pd.DataFrame(lines)


def model_index(board: Board, records: pd.DataFrame, name: str, folder: Path) -> str:
    """Model-card metadata of a cell (or the mean over the seeds of an arm): every task, split and precision."""
    results: list[EvalResult] = []
    units = {Unit(arm_name(m, s), p, r) for m, s, p, r in pick(records, name, folder)}
    for split in SPLITS:
        part = records[records["group"] == split]
        if part.empty:
            continue
        panel = build_panel(part)
        for precision in dict.fromkeys(unit.precision for unit in panel.units if unit in units):
            rows = [panel.row_of[unit] for unit in units if unit.precision == precision]
            for task in panel.tasks:
                value = sum(panel.mean(row, task) for row in rows) / len(rows)
                results.append(_result(board, split, task, precision, value, len(rows), len(panel.item_rows(task))))
    card = ModelCardData(
        model_name=f"{board.name}-{name}",
        eval_results=results,
        library_name="transformers",
        tags=["ecr-bench"],
        language=sorted(set(records["lang"])),
    )
    return f"---\n{card.to_yaml()}\n---\n"


def _result(
    board: Board, split: str, task: str, precision: str, value: float, seeds: int, items: int
) -> EvalResult:  # fmt: skip
    experiment: dict[str, Any] = board.provenance.get("experiment") or {}
    corpus = (experiment.get("corpus") or {}).get("name", "corpus")
    fingerprint = (board.provenance.get("fingerprints") or {}).get("corpus")
    return EvalResult(
        task_type="multiple-choice",
        task_name=f"{task} tasks, {split} languages",
        dataset_type=f"ecr-bench/{corpus}",
        dataset_name=f"ecr-bench {corpus}",
        dataset_config=f"{task}-{split}",
        dataset_split="test",
        dataset_revision=fingerprint,
        metric_type="accuracy",
        metric_name=f"accuracy ({precision})",
        metric_value=round(value, 6),
        metric_config=precision,
        metric_args={"precision": precision, "seeds": seeds, "items": items},
    )
