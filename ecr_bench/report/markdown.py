"""``board.md``: the verdict first, then every table with what it takes to doubt it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ecr_bench.report import tables
from ecr_bench.report.claims import claims_table
from ecr_bench.report.measure_tables import measure_tables
from ecr_bench.report.tables import Table
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.contrasts import HEADLINE, LOW, MIXED, SAME, SCALE
from ecr_bench.results.schema import Board
from ecr_bench.types import Measure

READING = """\
- *Unseen* languages have no labelled training rows (only unlabelled text); they are the headline.
- *Coarse* tasks can be solved from a handful of codes; *fine* tasks need the text to be read.
- Accuracy is the mean over items of a language, then over languages, then over tasks.
- Intervals are 95 %, over clusters of items with the same meaning and, where stated, over seeds; differences are
  paired by item. Seed variance is pooled over the arms that have two or more seeds, with t intervals.
- *p (Holm)* is corrected over the tests of one question; controls are not corrected because all must be beaten.
- McNemar's test ignores clusters and seeds and is therefore optimistic; it stands beside, not instead.
- Controls cost the same number of tokens as ECR; *oracle* uses the teacher at test time and cannot be deployed."""


def to_markdown(board: Board, measures: Sequence[Measure] = (), claims: ClaimsReport | None = None) -> str:
    """Render ``board`` as GitHub Markdown: claims first, tables of what was measured beside accuracy last."""
    precision = tables.reference_precision(board)
    headline_split, *other_splits = tables.splits(board)
    first = [leaderboard_part(board, headline_split, precision)]
    first += [leaderboard_part(board, split, precision) for split in other_splits]
    detail = [
        tables.diverged_table(board),
        tables.precision_table(board, headline_split),
        *(tables.controls_table(board, split, precision) for split in tables.splits(board)),
        tables.split_table(board, precision),
        tables.language_table(board),
        tables.baseline_table(board),
        *_contrast_tables(board),
        *measure_tables(measures),
    ]
    parts = [
        f"# {board.name}",
        _claims(claims) if claims else "",
        _verdict(board),
        *first,
        *(render(table) for table in detail if table),
        f"## How to read this\n\n{READING}",
        "## Notes and limits\n\n" + "\n".join(f"- {note}" for note in board.notes) if board.notes else "",
        _provenance(board.provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def leaderboard_part(board: Board, split: str, precision: str) -> str:
    return render(tables.leaderboard(board, split, precision))


def _verdict(board: Board) -> str:
    verdict = board.verdict
    lines = [f"## {verdict.question}", ""]
    overall = verdict.by_task.get("all")
    if overall is None:
        return "\n".join([*lines, verdict.sentence])
    lines.append(f"**{verdict.answer.capitalize()}.** {overall.sentence} {overall.qualification}".strip())
    lines.append("")
    for task, result in verdict.by_task.items():
        if task != "all":
            text = f"- **{task.capitalize()} tasks: {result.answer}.** {result.sentence} {result.qualification}"
            lines.append(text.strip())
    lines += [f"- {sentence}" for sentence in verdict.low_precision]
    return "\n".join(lines)


def _claims(report: ClaimsReport) -> str:
    lines = [f"- **{r.claim.says}** {_judged(r)}" for r in report.results]
    return render(claims_table(report)) + "\n\n" + "\n".join(lines)


def _judged(result: ClaimResult) -> str:
    return result.sentence if result.finding is None else f"{result.verdict.capitalize()}. {result.sentence}"


def _contrast_tables(board: Board) -> list[Table]:
    """All precisions for the headline split; elsewhere the reference precision (the rest is in board.json)."""
    result = []
    order = (HEADLINE, SAME, SCALE, LOW, MIXED)
    first, reference = tables.splits(board)[0], tables.reference_precision(board)
    for split in tables.splits(board):
        chosen = [c for c in board.contrasts if c.split == split and c.family in order]
        if split != first:
            chosen = [c for c in chosen if c.precision == c.precision_b == reference]
        chosen.sort(key=lambda c: order.index(c.family))
        result.append(tables.contrast_table(chosen, f"Paired differences, {split} languages"))
    return result


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|")


def render(table: Table) -> str:
    """One heading, one pipe table (sections run on), one caption."""
    head = "| " + " | ".join(_cell(column) for column in table.columns) + " |"
    rule = "|" + "|".join(["---", *["---:"] * (len(table.columns) - 1)]) + "|"
    body = ["| " + " | ".join(_cell(cell) for cell in line) + " |" for section in table.sections for line in section]
    caption = ["", f"*{table.caption}*".replace(" * ", " \\* ").replace("; * ", "; \\* ")] if table.caption else []
    return "\n".join([f"## {table.title}", "", head, rule, *body, *caption])


def _provenance(provenance: dict[str, Any]) -> str:
    if not provenance:
        return ""
    text = json.dumps(provenance, ensure_ascii=False, indent=2, default=str)
    return f"## Provenance\n\n```json\n{text}\n```"
