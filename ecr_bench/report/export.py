"""A finished board in other formats: Markdown, CSV, Parquet, and Hugging Face model-index YAML for one cell or arm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from ecr_bench.errors import UserError, unknown
from ecr_bench.io import atomic_path, write_text
from ecr_bench.report.markdown import to_markdown
from ecr_bench.results.arms import SPLITS
from ecr_bench.results.schema import Board
from ecr_bench.run import Run
from ecr_bench.statistics.panel import build_panel

FORMATS = ("terminal", "markdown", "csv", "parquet", "model-index")


def export_board(run: Run, format: str, cell: str | None, to: Path | None) -> None:
    """Write the board of ``run`` to ``to``, or to standard output if it is text. UserError for what does not fit."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if (cell is None) == (format == "model-index"):
        needs = "needs --cell, for example --cell ecr-1x-s0" if cell is None else "takes no --cell"
        raise UserError(f"--format {format} {needs}")
    if format == "parquet":
        if to is None:
            raise UserError("--format parquet needs --to FILE")
        with atomic_path(to) as temporary:
            rows_table(run.board).to_parquet(temporary, index=False)
        return
    if format == "model-index":
        text = model_index(run, str(cell))
    elif format == "markdown":
        text = to_markdown(run.board, run.measures, run.claims)
    else:
        text = rows_table(run.board).to_csv(index=False)
    if to is None:
        sys.stdout.write(text)
    else:
        write_text(to, text)


def rows_table(board: Board) -> pd.DataFrame:
    """The rows of a board, one line per arm, precision, split and task; intervals as ``ci_low`` and ``ci_high``."""
    lines = []
    for row in board.rows:
        parts = {"arm": str(row.arm), "method": row.arm.name, "size": row.arm.size, "role": str(row.arm.role)}
        fields = {"run": board.name, **parts, **row.model_dump(mode="json", exclude={"arm"})}
        fields["ci_low"], fields["ci_high"] = fields.pop("ci")
        lines.append(fields)
    return pd.DataFrame(lines)


def model_index(run: Run, name: str) -> str:
    """Model-card metadata of a cell (or the mean over the seeds of an arm): every task, split and precision."""
    results: list[EvalResult] = []
    board, records = run.board, run.records()
    run.pick(name)  # a wrong name is said here
    mine = records[(records["arm"] == name) | (records["cell"] == name)]
    units = set(zip(mine["arm"], mine["precision"], mine["seed"], strict=True))
    for split in SPLITS:
        part = records[records["group"] == split]
        if part.empty:
            continue
        panel = build_panel(part)
        chosen = [unit for unit in panel.units if tuple(unit) in units]
        for precision in dict.fromkeys(unit.precision for unit in chosen):
            rows = [panel.row_of[unit] for unit in chosen if unit.precision == precision]
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
