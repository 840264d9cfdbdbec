"""What the page draws: each figure from a board, with a legend and the numbers as a table beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from markupsafe import Markup

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import unknown
from ecr_bench.report import tables
from ecr_bench.report.curves import Curve
from ecr_bench.report.svg import Axis, DotRow, Line, Mark, dot_plot, line_plot, log_span, scatter_plot, span
from ecr_bench.report.tables import Table, percent
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.contrasts import CONTROL, HEADLINE, LOW, MIXED, UPPER
from ecr_bench.results.schema import Board, Contrast, LanguageRow, Row
from ecr_bench.results.words import interval, points
from ecr_bench.run import Run

COLOURS = 6
FIGURES = ("headline", "splits", "languages", "controls", "precision")
"""Figures that ``figure_of`` knows."""
CURVE_NAMES = {"train/loss": "Training loss", "val/loss": "Validation loss", "train/grad_norm": "Gradient norm"}
MOST_ARMS = 24
"""Arms drawn in one dot plot; the leaderboard has all."""


@dataclass(frozen=True)
class Panel:
    title: str
    svg: Markup


@dataclass(frozen=True)
class Key:
    """A legend entry: colour, and a shape, its outline or a line."""

    label: str
    style: int = 0
    shape: int = 0
    hollow: bool = False
    line: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels under one caption; ``tables`` hold the same numbers in words and digits."""

    panels: tuple[Panel, ...]
    caption: str
    keys: tuple[Key, ...] = ()
    tables: tuple[Table, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.panels)


def arm_styles(board: Board) -> dict[str, int]:
    """Arm -> colour 1..6, ECR first, then the plain models from large to small; all other arms are grey (0)."""
    sizes = {row.arm.size: row.parameters or 0 for row in board.rows if row.arm.role is Role.PLAIN}
    first = (Role.MAIN, Role.PLAIN)

    def order(arm: Arm) -> tuple[int, int, str]:
        return (first.index(arm.role) if arm.role in first else 2, -sizes.get(arm.size, 0), arm.name)

    ranked = sorted({row.arm for row in board.rows if row.arm.role.competes}, key=order)
    return {str(arm): i + 1 if i < COLOURS else 0 for i, arm in enumerate(ranked)}


def figure_of(run: Run, name: str) -> Figure:
    """One figure of the page by name; UserError lists the names."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    board, styles = run.board, arm_styles(run.board)
    drawn: dict[str, Callable[[], Figure]] = {
        "headline": lambda: headline_figure(board),
        "splits": lambda: splits_figure(board, styles),
        "languages": lambda: languages_figure(board, styles),
        "controls": lambda: controls_figure(board),
        "precision": lambda: precision_figure(board, styles),
    }
    return drawn[name]()


def shape_of(style: int) -> int:
    return (style - 1) % 4 if style else 0


def _keys(styles: dict[str, int], arms: Iterable[str]) -> tuple[Key, ...]:
    return tuple(Key(arm, styles.get(arm, 0), shape_of(styles.get(arm, 0))) for arm in arms if styles.get(arm, 0))


def _accuracy_axis(values: list[float], chance: list[float]) -> Axis:
    low, high = span(values, chance, margin=0.04)
    return Axis(max(0.0, low), min(1.0, high), percent=True)


def headline_figure(board: Board) -> Figure:
    """ECR minus the plain large model: every precision, coarse, fine and all."""
    families = (HEADLINE, LOW, MIXED)
    chosen = [c for c in board.contrasts if c.split == "unseen" and c.family in families]
    if not chosen:
        return Figure((), "")
    small, large = chosen[0].a, [c.b for c in chosen if c.a == chosen[0].a and c.family == HEADLINE][-1:]
    chosen = [c for c in chosen if c.a == small and [c.b] == large]
    panels = _difference_panels(chosen, lambda c: c.precision if c.precision == c.precision_b else _mixed(c))
    caption = (
        f"{small} minus {chosen[0].b if chosen else 'the plain model'} on unseen languages, in points of accuracy with "
        "95 % intervals. Right of the line: ECR is ahead. Filled: the interval leaves out zero."
    )
    return Figure(panels, caption, tables=(tables.contrast_table(chosen, "ECR minus the plain larger model"),))


def _mixed(c: Contrast) -> str:
    return f"{c.precision} vs {c.precision_b}"


def controls_figure(board: Board) -> Figure:
    """ECR minus each control and the upper bound at the reference precision."""
    precision = tables.reference_precision(board)
    chosen = [
        c
        for c in board.contrasts
        if c.split == "unseen" and c.family in (CONTROL, UPPER) and c.precision == c.precision_b == precision
    ]
    mains = dict.fromkeys(str(c.a) for c in chosen)
    panels = _difference_panels(chosen, lambda c: str(c.b) if len(mains) == 1 else f"{c.a} \N{MINUS SIGN} {c.b}")
    caption = (
        f"{' and '.join(mains)} minus each control on unseen languages, {precision}, in points with 95 % intervals. "
        "Filled and right of the line: ECR beats that control. Hollow: it is not shown to."
    )
    shown = tuple(tables.controls_table(board, split, precision) for split in tables.splits(board))
    return Figure(panels, caption, tables=tuple(t for t in shown if t))


def _difference_panels(contrasts: list[Contrast], name: Callable[[Contrast], str]) -> tuple[Panel, ...]:
    ends = [100 * v for c in contrasts for v in (*c.ci, c.difference)]
    axis = Axis(*span(ends, [0.0]))
    panels = []
    for task in dict.fromkeys(c.task for c in contrasts):
        mine = [c for c in contrasts if c.task == task]
        rows = [DotRow(name(c), (_difference_mark(c),)) for c in mine]
        label = f"{task} tasks. " + "; ".join(f"{name(c)} {points(c.difference)} ({interval(c.ci)})" for c in mine)
        panels.append(Panel(f"{task.capitalize()} tasks", dot_plot(rows, axis, label, "difference in points", 0.0)))
    return tuple(panels)


def _difference_mark(c: Contrast) -> Mark:
    clear = c.ci[0] > 0 or c.ci[1] < 0
    ci = (100 * c.ci[0], 100 * c.ci[1])
    return Mark(100 * c.difference, 1, ci, not clear, f"{c.name}: {points(c.difference)} ({interval(c.ci)})")


def splits_figure(board: Board, styles: dict[str, int]) -> Figure:
    """Unseen and seen accuracy of every arm, coarse and fine apart."""
    precision = tables.reference_precision(board)
    rows = [r for r in board.rows if r.precision == precision]
    present = tables.splits(board)
    panels = []
    for task in tables.tasks(board):
        mine = [r for r in rows if r.task == task]
        first = sorted((r for r in mine if r.split == present[0]), key=lambda r: -r.mean)[:MOST_ARMS]
        found = {(r.arm, str(r.split)): r for r in mine}
        lines = [
            DotRow(
                str(r.arm),
                tuple(_split_mark(found[key], styles) for s in present if (key := (r.arm, str(s))) in found),
            )
            for r in first
        ]
        chance = [r.chance for r in mine]
        axis = _accuracy_axis([v for r in mine for v in (r.mean, *(r.ci if r.split == present[0] else ()))], chance)
        label = f"{task} tasks, {precision}. " + "; ".join(
            f"{x.label} " + ", ".join(m.title for m in x.marks) for x in lines
        )
        svg = dot_plot(lines, axis, label, "accuracy in %; dashed: chance", chance[0] if chance else None)
        panels.append(Panel(f"{task.capitalize()} tasks", svg))
    keys = (Key("unseen languages, with 95 % interval", 1), Key("seen languages", 1, hollow=True))
    caption = "The distance between the two points of an arm is what it loses where it saw no labels."
    return Figure(tuple(panels), caption, keys[: len(present)], (tables.split_table(board, precision),))


def _split_mark(row: Row, styles: dict[str, int]) -> Mark:
    style = styles.get(str(row.arm), 0)
    seen = row.split == "seen"
    return Mark(row.mean, style, None if seen else row.ci, seen, f"{row.split} {percent(row.mean)} %")


def languages_figure(board: Board, styles: dict[str, int], limit: int = 4) -> Figure:
    """Main arms x languages, one panel per task family."""
    rows = [r for r in board.by_language if r.arm.role.competes]
    arms = [arm for arm, style in sorted(styles.items(), key=lambda pair: pair[1] or 99) if style][:limit]
    rows = [r for r in rows if str(r.arm) in arms]
    chance = {r.task: r.chance for r in board.rows}
    panels, shown = [], []
    for family in dict.fromkeys(r.task for r in rows):
        mine = [r for r in rows if r.task == family]
        axis = _accuracy_axis([r.mean for r in mine], [chance[family]])
        lines = _language_lines(mine, styles)
        label = f"{family}. " + "; ".join(
            f"{x.label}: " + ", ".join(m.title for m in x.marks) for x in lines if x.marks
        )
        svg = dot_plot(lines, axis, label, "accuracy in %; dashed: chance", chance[family])
        panels.append(Panel(family, svg))
        shown.append(_language_table(mine, arms, family))
    items = sorted({r.n_items for r in rows})
    few = " to ".join(str(n) for n in dict.fromkeys((*items[:1], *items[-1:])))
    caption = f"Each point rests on {few} items; read the pattern, not single points."
    return Figure(tuple(panels), caption, _keys(styles, arms), tuple(shown))


def _language_lines(rows: list[LanguageRow], styles: dict[str, int]) -> list[DotRow]:
    lines = []
    for split in dict.fromkeys(r.split for r in rows):
        lines.append(DotRow(split))
        part = [r for r in rows if r.split == split]
        for lang in sorted({r.lang for r in part}):
            marks = []
            for r in sorted((r for r in part if r.lang == lang), key=lambda r: -styles[str(r.arm)]):
                arm = str(r.arm)
                marks.append(Mark(r.mean, styles[arm], title=f"{arm} {percent(r.mean)} %", shape=shape_of(styles[arm])))
            lines.append(DotRow(lang, tuple(marks)))
    return lines


def _language_table(rows: list[LanguageRow], arms: list[str], family: str) -> Table:
    found = {(str(r.split), r.lang, str(r.arm)): percent(r.mean) for r in rows}
    pairs = dict.fromkeys((str(r.split), r.lang) for r in sorted(rows, key=lambda r: (r.split != "unseen", r.lang)))
    lines = tuple(
        (f"{lang} ({split})", *(found.get((split, lang, arm), tables.DASH) for arm in arms)) for split, lang in pairs
    )
    return Table(f"{family}: accuracy in % by language", ("language", *arms), (lines,))


def precision_figure(board: Board, styles: dict[str, int]) -> Figure:
    """Accuracy on unseen languages against bytes and against time, coarse and fine apart."""
    split = tables.splits(board)[0]
    rows = [r for r in board.rows if r.split == split and styles.get(str(r.arm))]
    precisions = ordered_precisions({r.precision for r in rows})
    panels = []
    for task in [t for t in tables.tasks(board) if t != "all"] or tables.tasks(board):
        for title, unit in (("bytes", "weights with projection and anchors, MB"), ("time", "ms per item")):
            mine = [(x, r) for r in rows if r.task == task and (x := _cost(r, title))]
            if not mine:
                continue
            groups: dict[str, list[tuple[float, Mark]]] = {}
            for x, r in sorted(mine, key=lambda pair: precisions.index(pair[1].precision)):
                arm = str(r.arm)
                title_ = f"{arm} {r.precision}: {percent(r.mean)} % at {x:.3g} {'MB' if title == 'bytes' else 'ms'}"
                shape = precisions.index(r.precision) % 4
                groups.setdefault(arm, []).append((x, Mark(r.mean, styles[arm], r.ci, False, title_, shape)))
            y_axis = _accuracy_axis([v for _, r in mine for v in r.ci], [])
            label = f"{task} tasks against {unit}. " + "; ".join(m.title for g in groups.values() for _, m in g)
            x_axis = Axis(*log_span([x for x, _ in mine]), log=True)
            svg = scatter_plot(list(groups.values()), x_axis, y_axis, label, unit)
            panels.append(Panel(f"{task.capitalize()} tasks by {title}", svg))
    keys = _keys(styles, dict.fromkeys(str(r.arm) for r in rows))
    keys = tuple(Key(k.label, k.style) for k in keys) + tuple(Key(p, 0, i % 4) for i, p in enumerate(precisions))
    caption = "Accuracy in % on unseen languages with 95 % intervals. Up and to the left is better."
    return Figure(tuple(panels), caption, keys, (tables.precision_table(board, split),))


def _cost(row: Row, kind: str) -> float | None:
    if kind == "time":
        return row.ms_per_item
    return None if row.bytes is None else (row.bytes + (row.side_bytes or 0)) / 1e6


def curves_figure(curves: dict[str, dict[str, Curve]], arm_of: dict[str, str], styles: dict[str, int]) -> Figure:
    """Loss and gradient norm over steps: cells of the board (controls in grey), or runs that are no cell (bases)."""
    panels = []
    for tag, name in CURVE_NAMES.items():
        lines = [
            Line(by_tag[tag], styles.get(arm_of.get(cell, cell), 0), cell)
            for cell, by_tag in curves.items()
            if tag in by_tag
        ]
        if lines:
            ends = "; ".join(f"{x.title} ends at {x.points[-1][1]:.3g}" for x in lines)
            log = tag == "train/grad_norm"
            panels.append(Panel(name + ", log scale" * log, line_plot(lines, f"{name}. {ends}", "step", log)))
    arms = dict.fromkeys(arm_of.get(cell, cell) for cell in curves)
    keys = [Key(arm, styles[arm], line=True) for arm in arms if styles.get(arm)]
    if any(not styles.get(arm) for arm in arms):
        keys.append(Key("controls and others", line=True))
    return Figure(tuple(panels), "", tuple(keys), _curve_tables(curves))


def _curve_tables(curves: dict[str, dict[str, Curve]]) -> tuple[Table, ...]:
    tags = [tag for tag in CURVE_NAMES if any(tag in by_tag for by_tag in curves.values())]
    lines = tuple(
        (cell, *(f"{by_tag[tag][-1][1]:.3f}" if tag in by_tag else tables.DASH for tag in tags))
        for cell, by_tag in curves.items()
    )
    return (Table("Last logged values", ("run", *(CURVE_NAMES[tag].lower() for tag in tags)), (lines,)),)
