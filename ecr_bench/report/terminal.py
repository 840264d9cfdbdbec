"""A board in the terminal: verdict, unseen leaderboard, seen leaderboard, precisions. Fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from ecr_bench.report.claims import numbers
from ecr_bench.report.measure_tables import short_table
from ecr_bench.report.tables import DASH, TIED, Table, accuracy_cell, leaderboard, reference_precision, splits
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.contrasts import TASKS
from ecr_bench.results.schema import ABOVE_FLOOR, Board, Verdict
from ecr_bench.results.words import arms, controls_sentence, correction
from ecr_bench.types import Measure


def print_board(board: Board, console: Console | None = None) -> None:
    """Print the board, headline first."""
    console = console or Console()
    precision = reference_precision(board)
    _print_verdict(board.verdict, console)
    for split in splits(board):
        console.print()
        print_table(_narrow(leaderboard(board, split, precision)), console)
    for row in board.diverged:
        text = f"diverged: {row.cell} in {row.precision}: {row.reason}"
        console.print(escape(text), style="red", highlight=False)
    table = _across_precisions(board)
    if len(table.columns) > 2:
        console.print()
        print_table(table, console)
    for note in board.notes:
        console.print(escape(f"- {note}"), style="dim", highlight=False)


NARROW = {"seeds": "n", "tokens": "tok", **{task + ABOVE_FLOOR: f"{task}^" for task in TASKS}}
"""Short heads, so that names of arms stay on one line in 80 columns."""


def _narrow(table: Table) -> Table:
    columns = tuple(NARROW.get(column, column) for column in table.columns)
    return replace(table, columns=columns, caption=_legend(table))


def _legend(table: Table) -> str:
    above = "^: without tasks at the floor; " if any(name.endswith(ABOVE_FLOOR) for name in table.columns) else ""
    return above + table.caption.replace("tokens: ", "n: seeds; tok: ")


STYLES = {"supported": "green", "refuted": "red"}


def print_claims(report: ClaimsReport, console: Console | None = None) -> None:
    """Print each claim in its own words with verdict, difference, corrected p and what could be detected."""
    console = console or Console()
    table = RichTable(title=f"Claims ({report.source})", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("verdict", width=18)
    table.add_column("claim")
    for r in (r for r in report.results if r.finding):
        text = f"{escape(r.claim.says)}\n[dim]{escape(_claim_numbers(r))}[/]"
        table.add_row(escape(r.verdict), text, style=STYLES.get(r.verdict))
    for r in (r for r in report.results if not r.finding):
        table.add_row(r.verdict, escape(f"{r.claim.id}: {r.sentence.removeprefix('Not tested: ')}"), style="dim")
    console.print(table, highlight=False)
    console.print(f"[dim]p after {correction(report)}; reasons in board.md[/]\n")


def _claim_numbers(result: ClaimResult) -> str:
    difference, p, mdd = numbers(result)
    text = f"{arms(result)}: {difference}"
    text += "" if p == DASH else f", p {p}, detectable {mdd}"
    return text + (f"; {said}" if (said := controls_sentence(result)) else "")


def print_measures(measures: Sequence[Measure], console: Console) -> None:
    """Four geometry metrics of every arm, and how many runs diverged; nothing where nothing was measured."""
    if table := short_table(measures):
        console.print()
        print_table(table, console)
    outcomes = [m for m in measures if m.metric == "diverged" and m.value is not None]
    if failed := [m.cell for m in outcomes if m.value]:
        text = f"Training diverged in {len(failed)} of {len(outcomes)} cells: {', '.join(failed)}"
        console.print(escape(text), style="red", highlight=False)


def _print_verdict(verdict: Verdict, console: Console) -> None:
    console.print(f"[bold]{escape(verdict.question)}[/bold]")
    overall = verdict.by_task.get("all")
    if overall is None:
        console.print(escape(verdict.sentence), highlight=False)
        return
    for task in ("all", *(name for name in verdict.by_task if name != "all")):
        result = verdict.by_task[task]
        text = escape(f"{result.sentence} {result.qualification}".strip())
        console.print(f"[bold]{task} tasks: {result.answer}.[/bold] {text}", highlight=False)
    for sentence in verdict.low_precision:
        console.print(escape(f"- {sentence}"), highlight=False)


def _across_precisions(board: Board) -> Table:
    """Contenders x precisions on all tasks of the headline split."""
    split = splits(board)[0]
    rows = [r for r in board.rows if r.split == split and r.task == "all" and r.arm.role.competes]
    found = {(r.arm, r.precision): r for r in rows}
    precisions = ordered_precisions({r.precision for r in rows})
    arms = list(dict.fromkeys(r.arm for r in rows))
    lines = tuple((str(arm), *(accuracy_cell(found.get((arm, p))) for p in precisions)) for arm in arms)
    title = f"{split.capitalize()} languages, all tasks, by precision: accuracy in %"
    return Table(title, ("arm", *precisions), (lines,), f"{TIED} tied with the best at that precision")


def print_table(table: Table, console: Console) -> None:
    """Print one table; the first column may wrap, numbers stay on one line."""
    drawn = RichTable(
        title=escape(table.title), title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    drawn.caption = escape(table.caption) or None
    drawn.padding = (0, 1, 0, 0)
    for index, column in enumerate(table.columns):
        drawn.add_column(escape(column), justify="right" if index else "left", overflow="fold", no_wrap=bool(index))
    for section in table.sections:
        for line in section:
            drawn.add_row(*(escape(cell) for cell in line))
        drawn.add_section()
    console.print(drawn)
