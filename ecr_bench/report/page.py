"""``report.html``: one self-contained page of a finished run, an ablation or not.

The page runs no script but its own (a Content-Security-Policy names it by hash) and loads nothing; every text that
comes from a run is escaped. It reads without JavaScript too: the script sorts, hides, copies and folds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ecr_bench.arm import Arm
from ecr_bench.formats import DASH, count, extra, number, percent, points, seeds, size, with_side
from ecr_bench.io import write_text
from ecr_bench.report import tables
from ecr_bench.report.drawing import Drawing, icon, palette_css
from ecr_bench.report.figures import FIGURES, drawing_of
from ecr_bench.report.measure_figures import measure_drawings
from ecr_bench.report.measure_tables import cost_table, diverged_table, reasons_table, timing_table
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.claim_schema import ClaimsReport
from ecr_bench.results.commands import arm_commands
from ecr_bench.results.schema import Board, BoardRow, LanguageRow, Word
from ecr_bench.results.words import arms, controls_sentence, correction
from ecr_bench.run import Run
from ecr_bench.table import Table, to_html

FILE = "report.html"
TEMPLATES = Path(__file__).resolve().parent / "templates"
MOST_LINES = 300
"""Lines of a plain table and of the list of commands; board.json and cells.json hold them all."""
SHOWN = 50
"""Lines of the leaderboard that are not hidden at first, and how many a press of the button adds."""


def write_page(run: Run, folder: Path) -> Path:
    """Write (or refresh) ``report.html`` of the run in ``folder`` and return its path.

    What the run lacks (claims, measures, training curves, an ablation) is left out.
    """
    write_text(folder / FILE, render_page(run))
    return folder / FILE


def render_page(run: Run) -> str:
    """The page as text; training curves are read from ``tensorboard/`` in the run's folder."""
    environment = escaping()
    environment.filters |= {
        "points": points,
        "percent": percent,
        "numbers": tables.claim_numbers,
        "arms": arms,
        "controls": controls_sentence,
        "correction": correction,
    }
    board, commands = run.board, arm_commands(run.board)
    style, script = page_style(_places_css()), template("script.js")
    measures = ((name, [Shown.of(d, _id(name.lower())) for d in drawn]) for name, drawn in measure_drawings(run))
    return environment.get_template("page.html").render(
        run=run,
        board=board,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
        cost=cost_sentence(run),
        tally=_tally(run.claims),
        verdict_table=_html(tables.verdict_table(board)),
        differences=_htmls(tables.difference_tables(board)),
        figures=Figures(run),
        measures=[(name, _id(name.lower()), drawn) for name, drawn in measures],
        precision=tables.reference_precision(board),
        leaderboard=Leaderboard(board, commands),
        shown=SHOWN,
        diverged=_html(diverged_table(board)),
        scorings=_htmls(tables.scoring_table(board, group) for group in tables.groups(board)),
        commands=[(_id(arm), str(arm), text) for arm, text in commands.items()][:MOST_LINES],
        baselines=_html(tables.baseline_table(board)),
        costs=_html(cost_table(run.cells)),
        timings=_html(timing_table(run.timings, run.cells)),
        unmeasured=_html(reasons_table(run.measures)),
        facts=_facts(run.provenance),
        experiment=json.dumps(run.experiment, ensure_ascii=False, indent=2),
    )


def escaping() -> Environment:
    """Templates of pages; every text that they are given is escaped, every name that they lack is an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def policy(style: str, script: str) -> str:
    """Content-Security-Policy of a page that loads nothing and has this style and script alone."""
    return f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"


@dataclass(frozen=True)
class Shown:
    """A drawing as the page holds it."""

    drawing: Drawing
    panels: list[tuple[str, Markup]]
    keys: list[tuple[Markup, str]]
    tables: list[Markup]

    @classmethod
    def of(cls, drawing: Drawing, name: str) -> Shown:
        keys = [(icon(key), key.label) for key in drawing.keys]
        return cls(drawing, list(drawing.svgs(f"{name}-{_id(drawing.title.lower())}")), keys, _htmls(drawing.tables))

    def __bool__(self) -> bool:
        return bool(self.drawing)


class Figures:
    """The figures of a run as the page asks for them; those it has no place for come last."""

    def __init__(self, run: Run):
        self.run = run
        self.placed = {"measures", "measures-over-steps"}  # the page has them by aspect
        self.drawn: dict[str, Shown] = {}

    def __getitem__(self, name: str) -> Shown:
        if name not in self.drawn:
            self.drawn[name] = Shown.of(drawing_of(self.run, name), _id(name))
        self.placed.add(name)
        return self.drawn[name]

    def rest(self) -> list[Shown]:
        """Figures that were registered and are not on the page yet."""
        return [shown for name in FIGURES if name not in self.placed and (shown := self[name])]


@dataclass(frozen=True)
class Entry:
    """A finished ``<td>`` of the leaderboard and what its column is sorted by; None stands last."""

    html: str
    key: float | str | None


def _plain(kind: str, text: str, key: float | str | None = None) -> Entry:
    return Entry(f'<td class="{kind}">{escape(text)}</td>', key)


@dataclass(frozen=True)
class BoardLine:
    """A line of the leaderboard: an arm at one precision on a group, or on one language without interval."""

    arm: Arm
    precision: str
    place: str
    """Group or language."""
    single: bool
    entries: tuple[Entry, ...]
    """Scores, costs, sample."""

    @property
    def kind(self) -> str:
        if self.arm.role.competes:
            return "contender"
        return "control" if self.arm.role.is_control else "upper bound"


class Leaderboard:
    """Every line of a board, best first: what the page sorts and filters.

    Classes of entries are short, for there may be ten thousand lines: s score, g coarse, fine and all, f single task,
    k cost, z sample size.
    """

    COSTS, SAMPLE = ("Tokens", "Params", "Bytes", "ms/item"), ("Seeds", "Items", "Clusters")

    def __init__(self, board: Board, commands: Mapping[Arm, str]):
        self.board = board
        self.commands = {arm: _id(arm) for arm in list(commands)[:MOST_LINES]}
        self.grains = tables.tasks(board)
        self.single_tasks = sorted({row.task for row in board.rows} - set(self.grains))
        self.groups = tables.groups(board)
        self.languages = sorted({row.lang for row in board.by_language})
        self.precisions = ordered_precisions(row.precision for row in board.rows)
        self.sizes = list(dict.fromkeys(row.arm.size for row in board.rows))
        low = min([row.ci[0] for row in board.rows] + [row.chance for row in board.rows], default=0.0)
        self.low = math.floor(low * 20) / 20
        self.high = max(math.ceil(max((row.ci[1] for row in board.rows), default=1.0) * 20) / 20, self.low + 0.05)

    @property
    def tasks(self) -> list[str]:
        return [*self.grains, *self.single_tasks]

    @cached_property
    def lines(self) -> list[BoardLine]:
        """Arms on groups, then arms on single languages."""
        return [*map(self._standing, tables.arm_rows(self.board)), *self._by_language()]

    @cached_property
    def first(self) -> list[BoardLine]:
        """What the page shows first: the headline group at the reference precision."""
        return [x for x in self.lines if (x.place, x.precision) == (self.groups[0], self.precisions[0])]

    @property
    def shown(self) -> Markup:
        """Rows that are there before any script runs."""
        return Markup("\n".join(map(self._row, self.first[:SHOWN])))

    @property
    def rows(self) -> Markup:
        """One row of HTML a line, which the script puts into the table when it is asked for. Names are escaped, so that
        nothing in it ends the element that holds it."""
        return Markup("\n".join(map(self._row, self.lines)))

    @property
    def keys(self) -> Markup:
        """JSON for the script: of each line the arm, precision, place, size and kind to filter by, whether it is of a
        single language, and the keys to sort by, in the order of the columns."""
        lines = [
            [str(x.arm), x.precision, x.place, x.arm.size, x.kind, int(x.single),
             [str(x.arm), self.precisions.index(x.precision), x.place, *(entry.key for entry in x.entries)]]
            for x in self.lines
        ]  # fmt: skip
        text = json.dumps(lines, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))

    def _row(self, line: BoardLine) -> str:
        name, kind = escape(line.arm), line.kind
        tag = "" if kind == "contender" else f'<span class="tag">{kind}</span>'
        command = self.commands.get(line.arm)
        link = f'<a href="#repeat-{command}" aria-label="repeat {name}">repeat</a>' if command else ""
        entries = "".join(entry.html for entry in line.entries)
        row = (
            f'<tr class="{kind.replace(" ", "-")}"><th scope="row">{name}{tag}</th>'
            f'<td class="of-precision">{escape(line.precision)}</td><td class="of-place">{escape(line.place)}</td>'
            f'{entries}<td class="do">{link}</td></tr>'
        )
        return " ".join(row.splitlines())

    def _standing(self, one: tables.ArmRows) -> BoardLine:
        row = one.row
        whole = None if row.parameters is None else row.parameters + (row.side_parameters or 0)
        stored = None if row.bytes is None else row.bytes + (row.side_bytes or 0)
        tokens = round(row.extra_tokens_per_item, 3)
        entries = (
            *(self._score(task, one.rows.get(task)) for task in self.tasks),
            _plain("n k", extra(row.extra_tokens_per_item), tokens),
            _plain("n k", with_side(row.parameters, row.side_parameters), whole),
            _plain("n k", with_side(row.bytes, row.side_bytes), stored),
            _plain("n k", number(row.ms_per_item), row.ms_per_item),
            *(_plain("n z", str(n), n) for n in (row.n_seeds, row.n_items, row.n_clusters)),
        )
        return BoardLine(one.arm, one.precision, one.group, False, entries)

    def _by_language(self) -> Iterator[BoardLine]:
        """Single tasks of an arm in one language, and their mean; what it costs stands on other lines."""
        found: dict[tuple[Arm, str, str], list[LanguageRow]] = {}
        for row in self.board.by_language:
            found.setdefault((row.arm, row.precision, row.lang), []).append(row)
        for (arm, precision, lang), rows in found.items():
            means = {row.task: row.mean for row in rows}
            means["all"] = sum(means.values()) / len(means)
            items = sum(row.n_items for row in rows)
            entries = (
                *(self._mean(task, means.get(task)) for task in self.tasks),
                *(_plain("n k", DASH) for _ in self.COSTS),
                _plain("n z", DASH),
                _plain("n z", str(items), items),
                _plain("n z", DASH),
            )
            yield BoardLine(arm, precision, lang, True, entries)

    def _score(self, task: str, row: BoardRow | None) -> Entry:
        """Mean and interval; the classes place ends, mean and chance on the common scale."""
        if row is None:
            return self._mean(task, None)
        low, high, chance = (self._place(v) for v in (*row.ci, row.chance))
        tie = ' <b class="tie">tied</b>' if row.tied_with_leader else ""
        ends = f" <i>{percent(row.ci[0])} to {percent(row.ci[1])}</i>"
        return self._mean(task, row.mean, f" l{low} h{high} c{chance}", ends + tie)

    def _mean(self, task: str, mean: float | None, bar: str = "", more: str = "") -> Entry:
        kind = "s g" if task in self.grains else "s f"
        if mean is None:
            return _plain(kind, DASH)
        return Entry(f'<td class="{kind} m{self._place(mean)}{bar}">{percent(mean)}{more}</td>', mean)

    def _place(self, share: float) -> int:
        """Per cent of the bar's width."""
        return round(100 * min(1.0, max(0.0, (share - self.low) / (self.high - self.low))))


def cost_sentence(run: Run) -> str:
    """What the two arms of the question cost; empty where the question was not tested."""
    board = run.board
    pair = board.verdict.small, board.verdict.large
    precision, group = tables.reference_precision(board), tables.groups(board)[0]
    found = {s.arm: s.row for s in tables.arm_rows(board) if (s.precision, s.group) == (precision, group)}
    if not board.verdict.by_task:
        return ""
    return "; ".join(f"{arm}: {_cost(found[arm])}" for arm in pair if arm in found)


def _cost(row: BoardRow) -> str:
    side = f" (+{count(row.side_parameters)} in projection and anchors)" if row.side_parameters else ""
    parts = [f"{count(row.parameters)} parameters{side}"]
    if row.bytes is not None:
        beside = f" (+{size(row.side_bytes)} beside)" if row.side_bytes else ""
        parts.append(f"{size(row.bytes)} of weights{beside}")
    if row.extra_tokens_per_item:
        parts.append(f"{extra(row.extra_tokens_per_item)} tokens an item")
    if row.ms_per_item is not None:
        parts.append(f"{number(row.ms_per_item)} ms an item")
    return ", ".join([*parts, seeds(row.n_seeds)])


def _tally(report: ClaimsReport | None) -> list[tuple[str, int]]:
    """Verdicts that occur, from supported to not tested, with the number of claims."""
    found = Counter(result.verdict for result in report.results) if report else Counter()
    return [(verdict, found[verdict]) for verdict in get_args(Word) if found[verdict]]


def template(name: str) -> str:
    """The text of a file in ``templates/``, as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def page_style(more: str = "") -> str:
    """Colours and style of every page, with ``more`` between them."""
    return palette_css() + more + template("style.css")


def _places_css() -> str:
    """``l37``: the low end of an interval at 37 % of the bar; so for m (mean), h (high end) and c (chance)."""
    return "".join(f".{what}{place}{{--{what}:{place}}}" for what in "lmhc" for place in range(101)) + "\n"


def _hash(source: str) -> str:
    """As a Content-Security-Policy names an inline element by its text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _id(name: object) -> str:
    """A name as the id of an element: letters, digits and hyphens, with a hash where that loses something."""
    plain = "".join(ch if ch.isascii() and ch.isalnum() else "-" for ch in str(name).lower())[:60]
    return plain if plain == str(name) else f"{plain}-{hashlib.sha256(str(name).encode()).hexdigest()[:6]}"


def _html(table: Table) -> Markup:
    """Nothing of a table without lines."""
    return to_html(table.cut(MOST_LINES)) if table else Markup("")


def _htmls(found: Iterable[Table]) -> list[Markup]:
    return [_html(table) for table in found if table]


def _facts(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    """Provenance as label and text, without the experiment."""
    result = []
    for key, value in provenance.items():
        if key == "experiment" or value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {_brief(v)}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        result.append((key.replace("_", " "), str(value)))
    return result


def _brief(value: Any) -> str:
    """A list of plain values as it is; what has parts of its own by their number: board.json holds them all."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(part, dict | list) for part in value)):
        return f"({len(value)} in board.json)"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
