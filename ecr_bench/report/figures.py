"""The figures of a run by name. Each is a function from a run to a drawing: pages, papers and notebooks show the same.

Another figure is one function here with ``@figure``, and a place in ``templates/page.html``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from matplotlib.figure import Figure

from ecr_bench.arm import Arm, Role
from ecr_bench.formats import MINUS, estimate, number, percent
from ecr_bench.registry import Registry
from ecr_bench.report import tables
from ecr_bench.report.drawing import COLOURS, Drawing, Key, Plot, shape_of
from ecr_bench.report.measure_tables import ablation_tables
from ecr_bench.report.plots import DotRow, Level, Mark, Scale, dots, scatter
from ecr_bench.results.ablation_schema import AblationResult, Point
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.contrasts import CONTROL, HEADLINE, LOW, MIXED, RIVAL, UPPER
from ecr_bench.results.schema import Board, BoardRow, Contrast, LanguageRow
from ecr_bench.run import Run

DrawFigure = Callable[[Run], Drawing]
Styles = dict[Arm, int]
FIGURES = Registry("figure")
"""Name -> function from a run to its drawing."""
MOST_ARMS = 24
"""Arms drawn in one dot plot; the leaderboard has all."""
MOST_LINES_BY_LANGUAGE = 4
MOST_NAMED = 12
"""Arms that a caption names."""
COSTS = (("bytes", "weights with projection and anchors, MB", "MB"), ("time", "ms per item", "ms"))
"""What accuracy is drawn against: name, axis, unit."""


def figure(name: str) -> Callable[[DrawFigure], DrawFigure]:
    """Register a function as the figure called ``name``; the first line of its docstring says what it shows."""

    def register(draw: DrawFigure) -> DrawFigure:
        FIGURES.add(name, draw, (draw.__doc__ or "").strip().partition("\n")[0])
        return draw

    return register


def drawing_of(run: Run, name: str) -> Drawing:
    """UserError lists the names."""
    from ecr_bench.report import measure_figures  # noqa: F401 - registers its figures

    drawing: Drawing = FIGURES.get(name)(run)
    return drawing


def figure_of(run: Run, name: str, columns: int = 3) -> Figure:
    """The same as a matplotlib figure, at most ``columns`` panels side by side. UserError where the run has nothing to
    draw."""
    return drawing_of(run, name).figure(columns)


def arm_styles(board: Board) -> Styles:
    """Arm -> colour 1..6, ECR first, then plain models from large to small, then the others from the best down; what is
    left is grey (0)."""
    group, precision = tables.groups(board)[0], tables.reference_precision(board)
    best = {
        row.arm: row.mean for row in board.rows if (row.group, row.precision, row.task) == (group, precision, "all")
    }
    sizes = {row.arm.size: row.parameters or 0 for row in board.rows if row.arm.role is Role.PLAIN}

    def order(arm: Arm) -> tuple[int, int, float, str]:
        mean = -best.get(arm, 0.0)
        if arm.role not in tables.LEADING:
            return len(tables.LEADING), 0, mean, arm.name
        return tables.LEADING.index(arm.role), -sizes.get(arm.size, 0), mean, arm.name

    ranked = sorted({row.arm for row in board.rows if row.arm.role.competes}, key=order)
    return {arm: i + 1 if i < COLOURS else 0 for i, arm in enumerate(ranked)}


def keys_of(styles: Styles, arms: Iterable[Arm], line: bool = False) -> tuple[Key, ...]:
    """A legend entry for each coloured arm."""
    return tuple(Key(str(a), styles[a], shape_of(styles[a]), line=line) for a in arms if styles.get(a))


def _titled(task: str) -> str:
    return f"{task.capitalize()} tasks"


def _all_first(task: str) -> tuple[bool, str]:
    return task != "all", task


def _in_words(rows: Sequence[DotRow]) -> str:
    return "; ".join(f"{row.label}: " + ", ".join(m.title for m in row.marks) for row in rows if row.marks)


def _group_contrasts(board: Board, group: str, families: Sequence[str]) -> list[Contrast]:
    return [c for c in board.contrasts if c.group == group and c.family in families]


BESIDE = {
    HEADLINE: "plain models of other sizes",
    RIVAL: "rivals of its size",
    CONTROL: "controls, which ECR must beat for a gain to be its own",
    UPPER: "the upper bound",
}
"""What stands in the figure of the question beside it."""


def _grey(kinds: list[str]) -> str:
    return f"Grey: {'; '.join(kinds)}. " if kinds else ""


@figure("differences")
def differences(run: Run) -> Drawing:
    """The small ECR arm minus the plain larger ones, each rival of its size and each control, on unseen languages."""
    board = run.board
    small, large = board.verdict.small, board.verdict.large
    precision = tables.reference_precision(board)
    chosen = [
        c
        for family in (HEADLINE, RIVAL, CONTROL, UPPER)
        for c in _group_contrasts(board, "unseen", [family])
        if c.a == small and c.precision == c.precision_b == precision
    ]
    chosen.sort(key=lambda c: c.b != large)  # the question first
    beside = {c.family for c in chosen if c.b != large}

    def row(c: Contrast, rule: bool) -> DotRow:
        return DotRow(str(c.b), (_difference(c, 1 if c.b == large else 0),), rule and c.b != large)

    panels = _difference_panels(chosen, lambda mine: [row(c, i == 1) for i, c in enumerate(mine)], small)
    caption = (
        f"{small} minus each arm on the left, unseen languages, {precision}: points of accuracy with 95 % intervals. "
        f"Blue: the question. {_grey([words for family, words in BESIDE.items() if family in beside])}"
        "Hollow: no difference is shown."
    )
    return Drawing("Differences", panels, caption, (), (tables.contrast_table(chosen, f"{small} minus other arms"),))


@figure("controls")
def controls(run: Run) -> Drawing:
    """ECR minus each control and the upper bound, on unseen and on seen languages."""
    board, precision = run.board, tables.reference_precision(run.board)
    chosen = [
        c
        for group in tables.groups(board)
        for c in _group_contrasts(board, group, (CONTROL, UPPER))
        if c.precision == c.precision_b == precision
    ]
    mains = dict.fromkeys(c.a for c in chosen)

    def rows(mine: list[Contrast]) -> list[DotRow]:
        return [
            DotRow(
                str(b) if len(mains) == 1 else f"{a} {MINUS} {b}",
                tuple(_difference(c, 1 if c.group == "unseen" else 2) for c in mine if (c.a, c.b) == (a, b)),
            )
            for a, b in dict.fromkeys((c.a, c.b) for c in mine)
        ]

    panels = _difference_panels(chosen, rows, *mains)
    keys = tuple(Key(f"{s} languages", 1 if s == "unseen" else 2, s != "unseen") for s in tables.groups(board))
    shown = (tables.controls_table(board, group, precision) for group in tables.groups(board))
    caption = f"{' and '.join(map(str, mains))} minus each control, {precision}, in points with 95 % intervals. "
    caption += "Hollow: ECR is not shown to beat that control."
    return Drawing("ECR minus each control", panels, caption, keys, tuple(t for t in shown if t))


@figure("precision-differences")
def precision_differences(run: Run) -> Drawing:
    """The small ECR arm minus the plain larger one at every precision, on unseen languages."""
    pair = run.board.verdict.small, run.board.verdict.large
    chosen = [c for c in _group_contrasts(run.board, "unseen", (HEADLINE, LOW, MIXED)) if (c.a, c.b) == pair]
    if len({(c.precision, c.precision_b) for c in chosen}) < 2:
        return Drawing("Differences by precision")

    def rows(mine: list[Contrast]) -> list[DotRow]:
        same = [c.precision == c.precision_b for c in mine]
        names = [c.precision if s else f"{c.precision} vs {c.precision_b}" for c, s in zip(mine, same, strict=True)]
        return [DotRow(name, (_difference(c, 1),)) for name, c in zip(names, mine, strict=True)]

    panels = _difference_panels(chosen, rows, pair[0])
    caption = f"{pair[0]} minus {pair[1]} at each precision; int8 vs fp32: ECR in int8 against the other in fp32."
    shown = tables.contrast_table(chosen, "ECR minus the plain larger model")
    return Drawing("Differences by precision", panels, caption, (), (shown,))


def _difference_panels(
    contrasts: Sequence[Contrast], rows: Callable[[list[Contrast]], list[DotRow]], *mains: Arm | None
) -> tuple[Plot, ...]:
    axis = Scale.around([100 * v for c in contrasts for v in (*c.ci, c.difference)], [0.0])
    panels = []
    for task in sorted({c.task for c in contrasts}, key=_all_first):
        lines = rows([c for c in contrasts if c.task == task])
        label = f"points: {mains[0]} minus \N{HORIZONTAL ELLIPSIS}" if len(mains) == 1 else "points"
        words = f"{_titled(task)}, points. {_in_words(lines)}"
        panels.append(dots(_titled(task), words, lines, axis, label, [Level(0.0)]))
    return tuple(panels)


def _difference(c: Contrast, style: int) -> Mark:
    """Hollow where no difference is shown: the interval holds zero, or the correction for other tests took it away."""
    hollow = c.verdict == "inconclusive" or c.ci[0] <= 0 <= c.ci[1]
    ci = (100 * c.ci[0], 100 * c.ci[1])
    return Mark(100 * c.difference, style, ci, hollow, f"{c.group}, {estimate(c.difference, c.ci)}", shape_of(style))


@figure("accuracy")
def accuracy(run: Run) -> Drawing:
    """Accuracy of every arm on unseen and on seen languages, coarse and fine apart."""
    board, styles = run.board, arm_styles(run.board)
    precision, present = tables.reference_precision(board), tables.groups(board)
    chosen = [s for s in tables.arm_rows(board) if s.precision == precision]
    panels = []
    for task in sorted(tables.tasks(board), key=_all_first):
        mine = {(s.arm, s.group): s.rows[task] for s in chosen if task in s.rows}
        leading = sorted((r for (_, group), r in mine.items() if group == present[0]), key=lambda r: -r.mean)
        if not leading:
            continue
        lines = [
            DotRow(str(r.arm), tuple(_level(mine[r.arm, s], styles) for s in present if (r.arm, s) in mine))
            for r in leading[:MOST_ARMS]
        ]
        ends = [v for r in mine.values() for v in (r.mean, *(r.ci if r.group == present[0] else ()))]
        chance = leading[0].chance
        levels, words = [Level(chance)], f"{_titled(task)}, {precision}. {_in_words(lines)}"
        axis = Scale.of_shares(ends, [chance])
        panels.append(dots(_titled(task), words, lines, axis, "accuracy in %; dashed: chance", levels))
    keys = (Key("unseen languages, with 95 % interval", 1), Key("seen languages", 1, hollow=True))
    caption = "The distance between the two points of an arm is what it loses where it saw no labels."
    shown = tables.group_table(board, precision)
    return Drawing("Unseen and seen accuracy", tuple(panels), caption, keys[: len(present)], (shown,) if shown else ())


def _level(row: BoardRow, styles: Styles) -> Mark:
    seen = row.group == "seen"
    title = f"{row.group} {percent(row.mean)} %"
    return Mark(row.mean, styles.get(row.arm, 0), None if seen else row.ci, seen, title)


@figure("languages")
def languages(run: Run) -> Drawing:
    """Accuracy of the main arms in each language, one panel per single task."""
    board, styles = run.board, arm_styles(run.board)
    ordered = sorted(styles, key=lambda arm: styles[arm] or 99)[:MOST_LINES_BY_LANGUAGE]
    rows = [r for r in board.by_language if r.arm in ordered]
    chance = {r.task: r.chance for r in board.rows}
    panels, shown = [], []
    for task in dict.fromkeys(r.task for r in rows):
        mine = [r for r in rows if r.task == task]
        lines = _language_lines(mine, styles)
        axis = Scale.of_shares([r.mean for r in mine], [chance[task]])
        levels, words = [Level(chance[task])], f"{task}. {_in_words(lines)}"
        panels.append(dots(task, words, lines, axis, "accuracy in %; dashed: chance", levels))
        shown.append(tables.languages_of(mine, ordered, task))
    items = sorted({r.n_items for r in rows})
    few = " to ".join(str(n) for n in dict.fromkeys((*items[:1], *items[-1:])))
    caption = f"Each point rests on {few} items; read the pattern, not single points."
    return Drawing("Accuracy by language and task", tuple(panels), caption, keys_of(styles, ordered), tuple(shown))


def _language_lines(rows: Sequence[LanguageRow], styles: Styles) -> list[DotRow]:
    lines = []
    for group in dict.fromkeys(str(r.group) for r in rows):
        part = [r for r in rows if r.group == group]
        lines.append(DotRow(group))
        for lang in sorted({r.lang for r in part}):
            mine = sorted((r for r in part if r.lang == lang), key=lambda r: -styles[r.arm])
            marks = (
                Mark(r.mean, styles[r.arm], title=f"{r.arm} {percent(r.mean)} %", shape=shape_of(styles[r.arm]))
                for r in mine
            )
            lines.append(DotRow(lang, tuple(marks)))
    return lines


@figure("precision")
def precision(run: Run) -> Drawing:
    """Accuracy on unseen languages against bytes and against time, at every precision."""
    board, styles = run.board, arm_styles(run.board)
    group = tables.groups(board)[0]
    rows = [r for r in board.rows if r.group == group and styles.get(r.arm)]
    order = ordered_precisions(r.precision for r in rows)
    panels = []
    for task in [t for t in tables.tasks(board) if t != "all"] or tables.tasks(board):
        for kind, label, unit in COSTS:
            mine = [(x, r) for r in rows if r.task == task and (x := _cost(r, kind))]
            if not mine:
                continue
            by_arm: dict[Arm, list[tuple[float, Mark]]] = {}
            for cost, r in sorted(mine, key=lambda pair: order.index(pair[1].precision)):
                title = f"{r.arm} {r.precision}: {percent(r.mean)} % at {number(cost)} {unit}"
                mark = Mark(r.mean, styles[r.arm], r.ci, False, title, order.index(r.precision))
                by_arm.setdefault(r.arm, []).append((cost, mark))
            words = f"{_titled(task)} against {label}. " + "; ".join(m.title for one in by_arm.values() for _, m in one)
            across = Scale.around_logs([x for x, _ in mine])
            shares = Scale.of_shares([v for _, r in mine for v in r.ci])
            title = f"{_titled(task)} by {kind}"
            panels.append(scatter(title, words, list(by_arm.values()), across, shares, label, up="accuracy in %"))
    arms = dict.fromkeys(r.arm for r in rows)
    keys = (*(Key(str(a), styles[a]) for a in arms), *(Key(p, 0, i) for i, p in enumerate(order)))
    caption = "Accuracy in % on unseen languages with 95 % intervals. Up and to the left is better."
    if left := [str(arm) for arm, style in styles.items() if not style]:
        caption += f" In the table alone: {', '.join(left[:MOST_NAMED])}{', …' if len(left) > MOST_NAMED else ''}."
    return Drawing(
        "Accuracy against bytes and time", tuple(panels), caption, keys, (tables.precision_table(board, group),)
    )


def _cost(row: BoardRow, kind: str) -> float | None:
    if kind == "time":
        return row.ms_per_item
    return None if row.bytes is None else (row.bytes + (row.side_bytes or 0)) / 1e6


@figure("ablation")
def ablation(run: Run) -> Drawing:
    """Accuracy along the axis of an ablation, with its references, one panel per group and task."""
    return ablation_drawing(run.ablation) if run.ablation else Drawing("Ablation")


def ablation_drawing(result: AblationResult) -> Drawing:
    """The same from the result alone."""
    series = list(dict.fromkeys(point.series for point in result.points))
    panels = tuple(_axis_panel(result, group, task, series) for group, task in result.panels())
    keys = tuple(Key(name, i % COLOURS + 1, i) for i, name in enumerate(series))
    caption = f"Accuracy in % against {result.label}, {result.precision}, with 95 % intervals; dashed: chance"
    if result.numeric and result.references:
        references = dict.fromkeys(str(p.arm) for p in result.references)
        keys += tuple(Key(name, 0 if i == 0 else COLOURS - i, line=True) for i, name in enumerate(references))
    return Drawing(f"Accuracy against {result.label}", panels, caption + ".", keys, tuple(ablation_tables(result)))


def _axis_panel(result: AblationResult, group: str, task: str, series: list[str]) -> Plot:
    mine = [p for p in result.points if (p.group, p.task) == (group, task)]
    references = [p for p in result.references if (p.group, p.task) == (group, task)]
    chance = result.chance[f"{group}/{task}"]
    y = Scale.of_shares([v for p in (*mine, *references) for v in p.ci], [chance])
    labels = list(dict.fromkeys(p.label for p in mine))
    rows = [DotRow(label, tuple(_point(p, series) for p in mine if p.label == label)) for label in labels]
    if references:
        rows += [DotRow("references"), *(DotRow(str(p.arm), (_point(p, series),)) for p in references)]
    title = f"{_titled(task)}, {group}"
    words = f"{task}, {group} languages. {_in_words(rows)}"
    if not result.numeric:
        return dots(title, words, rows, y, "accuracy in %", [Level(chance)])
    levels = [Level(chance)]
    levels += [Level(p.mean, 0 if i == 0 else COLOURS - i, _said(p)) for i, p in enumerate(references)]
    ticks = sorted({(float(p.at or 0), p.label) for p in mine})
    places = [at for at, _ in ticks]
    x = Scale.around_logs(places) if result.log else Scale.around(places)
    drawn = []
    for place, name in enumerate(series):  # a little apart, so that their intervals do not hide each other
        off = 0.013 * (place - (len(series) - 1) / 2)
        drawn.append([(x.beside(float(p.at or 0), off), _point(p, series)) for p in mine if p.series == name])
    return scatter(title, words, drawn, x, y, result.label, levels, ticks, "accuracy in %")


def _said(point: Point) -> str:
    return f"{point.arm} {percent(point.mean)} %"


def _point(point: Point, series: list[str]) -> Mark:
    place = series.index(point.series) if point.label else -1
    return Mark(point.mean, place % COLOURS + 1 if place >= 0 else 0, point.ci, False, _said(point), max(0, place))
