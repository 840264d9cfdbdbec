"""A finished run in other formats: Markdown, CSV, Parquet, and Hugging Face model-index YAML for one cell or arm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from ecr_bench.errors import UserError, unknown
from ecr_bench.io import atomic_path, write_text
from ecr_bench.report import tables
from ecr_bench.report.drawing import save
from ecr_bench.report.figures import ablation_drawing
from ecr_bench.report.measure_tables import ablation_tables, diverged_table, measure_tables, text_tables, timing_table
from ecr_bench.results.ablation_schema import AblationResult
from ecr_bench.results.arms import GROUPS
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.schema import Board
from ecr_bench.run import Run
from ecr_bench.statistics.panel import build_panel
from ecr_bench.table import escape_markdown
from ecr_bench.table import to_markdown as table_to_markdown

FORMATS = ("terminal", "markdown", "csv", "parquet", "model-index")
ABLATION_TEXT, ABLATION_FIGURE = "ablation.md", "ablation.png"
READING = """\
- *Unseen* languages have no labelled training rows (only unlabelled text); they are the headline.
- *Coarse* tasks can be solved from a handful of codes; *fine* tasks need the text to be read.
- Accuracy is the mean over items of a language, then over languages, then over tasks.
- Intervals are 95 %, over clusters of items with the same meaning and, where stated, over seeds; differences are
  paired by item. Seeds count with the variance between them of the arms compared, and of no other arm.
- *p (Holm)* is corrected over the tests of one question; controls are not corrected because all must be beaten.
- McNemar's test ignores clusters and seeds and is therefore optimistic; it stands beside, not instead.
- Controls cost the same number of tokens as ECR; *oracle* uses the teacher at test time and cannot be deployed."""


def to_markdown(run: Run) -> str:
    """``board.md``: the verdict, the leaderboards, the claims, then every table with what it takes to doubt them."""
    board = run.board
    precision, groups = tables.reference_precision(board), tables.groups(board)
    leaderboards = [tables.leaderboard(board, group, precision) for group in groups]
    detail = [
        tables.precision_table(board, groups[0]),
        *(tables.controls_table(board, group, precision) for group in groups),
        *(tables.scoring_table(board, group) for group in groups),
        tables.group_table(board, precision),
        *tables.language_tables(board),
        tables.baseline_table(board),
        *tables.difference_tables(board),
        *measure_tables(run.measures),
        *text_tables(run.measures),
        timing_table(run.timings, run.cells),
    ]
    parts = [
        f"# {escape_markdown(board.name)}",
        _verdict(board),
        *map(table_to_markdown, leaderboards),
        table_to_markdown(diverged) if (diverged := diverged_table(board)) else "",
        _claims(run.claims) if run.claims else "",
        *(table_to_markdown(table) for table in detail if table),
        f"## How to read this\n\n{READING}",
        "## Notes and limits\n\n" + "\n".join(f"- {escape_markdown(note)}" for note in board.notes)
        if board.notes
        else "",
        _provenance(board.provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(board: Board) -> str:
    verdict = board.verdict
    lines = [f"## {escape_markdown(verdict.question)}", ""]
    overall = verdict.by_task.get("all")
    if overall is None:
        return "\n".join([*lines, escape_markdown(verdict.sentence)])
    said = escape_markdown(f"{overall.sentence} {overall.qualification}".strip())
    lines.append(f"**{verdict.answer.capitalize()}.** {said}")
    lines.append("")
    for task, result in verdict.by_task.items():
        if task != "all":
            text = escape_markdown(f"{result.sentence} {result.qualification}".strip())
            lines.append(f"- **{escape_markdown(task.capitalize())} tasks: {result.answer}.** {text}")
    lines += [f"- {escape_markdown(sentence)}" for sentence in verdict.low_precision]
    return "\n".join(lines)


def _claims(report: ClaimsReport) -> str:
    lines = [f"- **{escape_markdown(r.claim.says)}** {escape_markdown(_judged(r))}" for r in report.results]
    return table_to_markdown(tables.claims_table(report)) + "\n\n" + "\n".join(lines)


def _judged(result: ClaimResult) -> str:
    return result.sentence if result.finding is None else f"{result.verdict.capitalize()}. {result.sentence}"


def ablation_to_markdown(result: AblationResult) -> str:
    """``ablation.md``: findings, figure, tables, notes."""
    name, label = escape_markdown(result.name), escape_markdown(result.label)
    parts = [f"# {name}: {label}", *map(escape_markdown, result.findings), f"![{label}]({ABLATION_FIGURE})"]
    parts += [table_to_markdown(table) for table in ablation_tables(result)]
    parts.append("## Notes\n\n" + "\n".join(f"- {escape_markdown(note)}" for note in result.notes))
    return "\n\n".join(parts) + "\n"


def write_ablation(folder: Path, result: AblationResult) -> None:
    """Write ``ablation.md`` and its figure, each atomically."""
    save(ablation_drawing(result).figure(columns=2), folder / ABLATION_FIGURE)
    write_text(folder / ABLATION_TEXT, ablation_to_markdown(result))


def _provenance(provenance: dict[str, Any]) -> str:
    if not provenance:
        return ""
    text = json.dumps(provenance, ensure_ascii=False, indent=2, default=str)
    return f"## Provenance\n\n```json\n{text}\n```"


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
        text = to_markdown(run)
    else:
        text = rows_table(run.board).to_csv(index=False)
    if to is None:
        sys.stdout.write(text)
    else:
        write_text(to, text)


def rows_table(board: Board) -> pd.DataFrame:
    """The rows of a board, one line per arm, precision, group and task; intervals as ``ci_low`` and ``ci_high``."""
    lines = []
    for row in board.rows:
        parts = {"arm": str(row.arm), "method": row.arm.name, "size": row.arm.size, "role": str(row.arm.role)}
        fields = {"run": board.name, **parts, **row.model_dump(mode="json", exclude={"arm"})}
        fields["ci_low"], fields["ci_high"] = fields.pop("ci")
        lines.append(fields)
    return pd.DataFrame(lines)


def model_index(
    run: Run, name: str, precision: str | None = None, base_model: str | None = None, licence: str | None = None
) -> str:
    """Model-card metadata of a cell (or the mean over the seeds of an arm): every task and group, at every precision
    or at one. ``licence``: by the name that model cards have for it."""
    results: list[EvalResult] = []
    board, records = run.board, run.records()
    run.pick(name)  # a wrong name is said here
    mine = records[(records["arm"] == name) | (records["cell"] == name)]
    respondents = set(zip(mine["arm"], mine["precision"], mine["seed"], strict=True))
    for group in GROUPS:
        part = records[records["group"] == group]
        if part.empty:
            continue
        panel = build_panel(part)
        chosen = [one for one in panel.respondents if tuple(one) in respondents]
        for at in dict.fromkeys(one.precision for one in chosen if precision in (None, one.precision)):
            rows = [panel.row_of[one] for one in chosen if one.precision == at]
            for task in panel.tasks:
                value = sum(panel.mean(row, task) for row in rows) / len(rows)
                results.append(_result(board, group, task, at, value, len(rows), len(panel.item_rows(task))))
    card = ModelCardData(
        model_name=f"{board.name}-{name}",
        eval_results=results,
        base_model=base_model,
        license=licence,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["ecr-bench"],
        language=sorted(set(records["lang"])),
    )
    return f"---\n{card.to_yaml()}\n---\n"


def _result(
    board: Board, group: str, task: str, precision: str, value: float, seeds: int, items: int
) -> EvalResult:  # fmt: skip
    experiment: dict[str, Any] = board.provenance.get("experiment") or {}
    corpus = (experiment.get("corpus") or {}).get("name", "corpus")
    fingerprint = (board.provenance.get("fingerprints") or {}).get("corpus")
    return EvalResult(
        task_type="multiple-choice",
        task_name=f"{task} tasks, {group} languages",
        dataset_type=f"ecr-bench/{corpus}",
        dataset_name=f"ecr-bench {corpus}",
        dataset_config=f"{task}-{group}",
        dataset_split="test",
        dataset_revision=fingerprint,
        metric_type="accuracy",
        metric_name=f"accuracy ({precision})",
        metric_value=round(value, 6),
        metric_config=precision,
        metric_args={"precision": precision, "seeds": seeds, "items": items},
    )
