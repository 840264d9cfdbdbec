"""A run in the terminal, in 80 columns. What matters stands last: the verdict in words, the one table, the page.

Also what a teacher says of a corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from ecr_bench.config import TeacherConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.formats import DASH, percent
from ecr_bench.report import tables
from ecr_bench.report.measure_tables import reasons_table, short_table, timing_table
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.contrasts import TASKS
from ecr_bench.results.schema import ABOVE_FLOOR, Verdict
from ecr_bench.results.words import arms, controls_sentence, correction
from ecr_bench.run import Run
from ecr_bench.stages.translations import find_translations
from ecr_bench.table import Table, print_table
from ecr_bench.teachers.registry import create

NARROW = {"seeds": "n", "tokens": "tok", **{task + ABOVE_FLOOR: f"{task}^" for task in TASKS}}
"""Short heads, so that names of arms stay on one line in 80 columns."""


def print_run(run: Run, console: Console, page: Path | None = None) -> None:
    """Geometry, precisions, seen languages, claims and notes; then verdict, leaderboard and where the page is."""
    board = run.board
    headline, *others = tables.groups(board)
    precision = tables.reference_precision(board)
    for table in (
        short_table(run.measures),
        reasons_table(run.measures),
        timing_table(run.timings, run.cells),
        tables.across_precisions(board),
        *(_narrow(tables.leaderboard(board, group, precision)) for group in others),
    ):
        _print(table, console)
    print_claims(run.claims, console)
    for note in board.notes:
        console.print(escape(f"- {note}"), style="dim", highlight=False)
    for row in board.diverged:
        text = f"diverged: {row.cell} in {row.precision}: {row.reason}"
        console.print(escape(text), style="red", highlight=False)
    console.print()
    _print_verdict(board.verdict, console)
    console.print()
    _print(_narrow(tables.leaderboard(board, headline, precision)), console)
    for finding in run.ablation.findings if run.ablation else ():
        console.print(escape(finding), highlight=False)
    if page is not None:
        console.print(f"Page: [bold]{escape(str(page))}[/]; all tables: board.md beside it", highlight=False)


def _print(table: Table, console: Console) -> None:
    if table:
        print_table(table, console)
        console.print()


def _narrow(table: Table) -> Table:
    columns = tuple(NARROW.get(column, column) for column in table.columns)
    return replace(table, columns=columns, caption=_legend(table))


def _legend(table: Table) -> str:
    above = "^: without tasks at the floor; " if any(name.endswith(ABOVE_FLOOR) for name in table.columns) else ""
    return above + table.caption.replace("tokens: ", "n: seeds; tok: ")


def print_claims(report: ClaimsReport | None, console: Console) -> None:
    """Each claim in its own words with verdict, difference, corrected p and what could be detected."""
    if report is None:
        return
    tested = tuple((r.verdict, f"{r.claim.says}\n{_claim_numbers(r)}") for r in report.results if r.finding)
    untested = tuple(
        (r.verdict, f"{r.claim.id}: {r.sentence.removeprefix('Not tested: ')}") for r in report.results if not r.finding
    )
    caption = f"p after {correction(report)}; reasons in board.md"
    print_table(Table(f"Claims ({report.source})", ("verdict", "claim"), (tested, untested), caption, words=2), console)
    console.print()


def _claim_numbers(result: ClaimResult) -> str:
    difference, p, mdd = tables.claim_numbers(result)
    text = f"{arms(result)}: {difference}"
    text += "" if p == DASH else f", p {p}, detectable {mdd}"
    return text + (f"; {said}" if (said := controls_sentence(result)) else "")


def _print_verdict(verdict: Verdict, console: Console) -> None:
    console.print(f"[bold]{escape(verdict.question)}[/bold]")
    if "all" not in verdict.by_task:
        console.print(escape(verdict.sentence), highlight=False)
        return
    for task in ("all", *(name for name in verdict.by_task if name != "all")):
        result = verdict.by_task[task]
        text = escape(f"{result.sentence} {result.qualification}".strip())
        console.print(f"[bold]{escape(task)} tasks: {result.answer}.[/bold] {text}", highlight=False)
    for sentence in verdict.low_precision:
        console.print(escape(f"- {sentence}"), highlight=False)


def print_translations(corpus: Corpus, teacher: str, console: Console) -> None:
    """Near translations of test rows in training, and how many translations ``teacher`` finds in each language."""
    frame = corpus.dataset.to_pandas()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"texts through {teacher}", total=None)
        config = TeacherConfig(name=teacher)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        found = find_translations(frame, create(config), config.rows, 0, report)
    for note in found.notes():
        console.print(escape(note), highlight=False)
    lines = ((one.lang, f"{one.pairs:,}", percent(one.accuracy)) for one in found.retrieval)
    heads = ("language", "pairs", f"translations found, % ({found.pivot}, {teacher})")
    _print(Table.of("", heads, lines), console)
