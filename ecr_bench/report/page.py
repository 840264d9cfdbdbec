"""``report.html``: one self-contained page of a finished run, made from the JSON files in its folder and tensorboard/.

The page runs no script but its own (a Content-Security-Policy names it by hash) and loads nothing; every text that
comes from a run is escaped. It reads without JavaScript too: the script adds sorting, filtering and copying.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ecr_bench.io import write_text
from ecr_bench.report import figures, tables
from ecr_bench.report.ablation_figure import ablation_figure
from ecr_bench.report.claims import numbers
from ecr_bench.report.curves import Curve, read_curves
from ecr_bench.report.lines import SHOWN, build_leaderboard, payload, percent_of
from ecr_bench.report.measure_figures import measure_figures
from ecr_bench.report.tables import Table
from ecr_bench.results.ablation_schema import AblationResult
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.claim_schema import ClaimsReport
from ecr_bench.results.commands import arm_commands
from ecr_bench.results.contrasts import HEADLINE, LOW, MIXED, SAME, SCALE, TASKS
from ecr_bench.results.schema import Board, Word
from ecr_bench.results.words import arms, controls_sentence, correction, interval, points
from ecr_bench.run import Run
from ecr_bench.types import Measure

FILE = "report.html"
MOST_LINES = 300
"""Lines of a table that is not built by the browser; board.json and cells.json hold them all."""

Curves = dict[str, dict[str, Curve]]


@dataclass(frozen=True)
class Extras:
    """What a run may have beside its board."""

    claims: ClaimsReport | None = None
    measures: list[Measure] = field(default_factory=list)
    ablation: AblationResult | None = None


def write_page(run: Run, folder: Path) -> Path:
    """Write (or refresh) ``report.html`` of the run in ``folder`` and return its path.

    What the run lacks (claims, measures, training curves, an ablation) is left out.
    """
    extras = Extras(run.claims, list(run.measures), run.ablation)
    text = render_page(run.board, run.cells, read_curves(folder / "tensorboard"), extras)
    write_text(folder / FILE, text)
    return folder / FILE


def render_page(board: Board, cells: Sequence[CellCosts], curves: Curves, extras: Extras | None = None) -> str:
    """The page as text. ``cells``: rows of cells.json; ``curves``: run -> tag -> ((step, value), ...)."""
    extras = extras or Extras()
    environment = Environment(
        loader=PackageLoader("ecr_bench.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": points,
        "interval": interval,
        "millionths": percent_of,
        "numbers": numbers,
        "arms": arms,
        "controls": controls_sentence,
        "correction": correction,
    }
    style, script = (_source(environment, name) for name in ("style.css", "script.js"))
    commands = arm_commands(board)
    leaderboard = build_leaderboard(board, commands)
    return environment.get_template("page.html").render(
        board=board,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'",
        claims=extras.claims,
        tally=_tally(extras.claims),
        measures=_cut_figures(measure_figures(extras.measures, figures.arm_styles(board))),
        ablation=_cut_figure(ablation_figure(extras.ablation)),
        precision=tables.reference_precision(board),
        leaderboard=leaderboard,
        shown=SHOWN,
        data=payload(leaderboard),
        commands=[(str(arm), text) for arm, text in commands.items()][:MOST_LINES],
        figures=_figures(board, cells, curves),
        differences=[_cut(table) for table in _difference_tables(board)],
        baselines=_cut(baseline_table(board)),
        costs=_cut(cost_table(cells)),
        facts=_facts(board.provenance),
        experiment=json.dumps(board.provenance.get("experiment", {}), ensure_ascii=False, indent=2),
        most=MOST_LINES,
    )


def _tally(report: ClaimsReport | None) -> list[tuple[str, int]]:
    """Verdicts that occur, from supported to not tested, with the number of claims."""
    found = Counter(result.verdict for result in report.results) if report else Counter()
    return [(verdict, found[verdict]) for verdict in get_args(Word) if found[verdict]]


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(source: str) -> str:
    """As a Content-Security-Policy names an inline element by its text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _figures(board: Board, cells: Sequence[CellCosts], curves: Curves) -> dict[str, figures.Figure]:
    styles = figures.arm_styles(board)
    arm_of = {cell.cell.replace("/", "_"): str(cell.arm) for cell in cells}
    trained = {run: by_tag for run, by_tag in curves.items() if run in arm_of}
    bases = {run: by_tag for run, by_tag in curves.items() if run not in arm_of}
    own = {run: i + 1 for i, run in enumerate(list(bases)[: figures.COLOURS])}
    drawn = {
        "headline": figures.headline_figure(board),
        "splits": figures.splits_figure(board, styles),
        "languages": figures.languages_figure(board, styles),
        "controls": figures.controls_figure(board),
        "precision": figures.precision_figure(board, styles),
        "training": figures.curves_figure(trained, arm_of, styles),
        "pretraining": figures.curves_figure(bases, {}, own),
    }
    return {name: _cut_figure(figure) for name, figure in drawn.items()}


def _cut_figure(figure: figures.Figure) -> figures.Figure:
    return replace(figure, tables=tuple(_cut(t) for t in figure.tables))


def _cut_figures(
    groups: list[tuple[str, list[tuple[str, figures.Figure]]]],
) -> list[tuple[str, list[tuple[str, figures.Figure]]]]:
    return [(name, [(title, _cut_figure(figure)) for title, figure in drawn]) for name, drawn in groups]


def _difference_tables(board: Board) -> list[Table]:
    """Every paired difference that is no control, by split."""
    order = (HEADLINE, SAME, SCALE, LOW, MIXED)
    result = []
    for split in tables.splits(board):
        chosen = [c for c in board.contrasts if c.split == split and c.family in order]
        chosen.sort(key=lambda c: order.index(c.family))
        result.append(tables.contrast_table(chosen, f"Paired differences, {split} languages"))
    return [table for table in result if table]


def baseline_table(board: Board) -> Table:
    """Surface baselines by split and task, beside the two leading arms of the question at the reference precision."""
    precision, styles = tables.reference_precision(board), figures.arm_styles(board)
    arms = [arm for arm, style in styles.items() if style in (1, 2)]
    scores = {
        (str(r.arm), str(r.split), r.task): tables.percent(r.mean) for r in board.rows if r.precision == precision
    }
    names = {name for by_task in board.baselines.values() for numbers in by_task.values() for name in numbers}
    ordered = sorted(names, key=lambda name: (name != "chance", name))
    sections = []
    for split in tables.splits(board):
        by_task = board.baselines.get(split, {})
        tasks = [*(t for t in tables.tasks(board) if t in by_task), *(t for t in by_task if t not in TASKS)]
        sections.append(
            tuple(
                (
                    f"{task} ({split})",
                    *(
                        tables.percent(v) if (v := by_task[task].get(name)) is not None else tables.DASH
                        for name in ordered
                    ),
                    *(scores.get((arm, split, task), tables.DASH) for arm in arms),
                )
                for task in tasks
            )
        )
    columns = ("task", *(name.replace("_", " ") for name in ordered), *arms)
    return Table("Surface baselines and models", columns, tuple(sections))


def cost_table(cells: Sequence[CellCosts]) -> Table:
    """What each cell cost to train: one line per cell (its precisions share the training)."""
    first = {cell.cell: cell for cell in reversed(cells)}
    lines = tuple(
        (
            name,
            tables.with_side(cell.parameters, cell.side_parameters),
            _number(cell.train_seconds, 1),
            tables.short(cell.tokens),
            _number(_rate(cell), 0),
            _number(cell.peak_memory, 0, 1e6),
            _number(cell.val_loss, 3),
            _number(cell.grad_norm_max, 2),
            "yes" if cell.diverged else {True: "no", False: "yes", None: tables.DASH}[cell.finite],
        )
        for name, cell in reversed(first.items())
    )
    columns = (
        "cell", "params", "training s", "tokens", "tokens/s", "peak MB",
        "validation loss", "largest gradient", "diverged",
    )  # fmt: skip
    caption = (
        "training s: wall clock beside whatever else ran, not for comparison; params: model + projection and anchors; "
        "peak MB: of the training process; losses in nats per token"
    )
    return Table("Cost of each cell", columns, (lines,), caption)


def _rate(cell: CellCosts) -> float | None:
    tokens, seconds = cell.tokens, cell.train_seconds
    return tokens / seconds if tokens and seconds else None


def _number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return tables.DASH if value is None else f"{value / unit:,.{digits}f}"


def _cut(table: Table) -> Table:
    """At most MOST_LINES lines; the caption says so."""
    total = sum(len(section) for section in table.sections)
    if total <= MOST_LINES:
        return table
    lines = [line for section in table.sections for line in section][:MOST_LINES]
    caption = f"{table.caption}; the first {MOST_LINES} of {total} lines, the rest is in the run's folder".lstrip("; ")
    return Table(table.title, table.columns, (tuple(lines),), caption)


def _facts(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """Provenance as label and text, without the experiment."""
    result = []
    for key, value in provenance.items():
        if key == "experiment" or value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        result.append((key.replace("_", " "), str(value)))
    return result
