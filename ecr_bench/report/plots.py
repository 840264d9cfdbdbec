"""The three kinds of panel: rows of points on one axis, points on two axes, curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ecr_bench.formats import MINUS
from ecr_bench.report.drawing import CHARACTER, FOOT, MOST_LABEL, PALETTE, ROW, Plot, colour, marker, short
from ecr_bench.report.svg import TOOLTIP

Range = tuple[float, float]
MUTED = PALETTE["muted"][0]


@dataclass(frozen=True)
class Mark:
    """A point with an optional interval; ``hollow`` draws the outline only, ``title`` is shown over it."""

    value: float
    style: int = 0
    ci: Range | None = None
    hollow: bool = False
    title: str = ""
    shape: int = 0


@dataclass(frozen=True)
class DotRow:
    """One line of a dot plot; without marks it is a heading. ``rule``: with a line above it."""

    label: str
    marks: tuple[Mark, ...] = ()
    rule: bool = False


@dataclass(frozen=True)
class Curve:
    points: tuple[Range, ...]
    style: int = 0
    title: str = ""


@dataclass(frozen=True)
class Scale:
    """Range of the data; ``percent``: shares, labelled in percent."""

    low: float
    high: float
    log: bool = False
    percent: bool = False

    @classmethod
    def around(cls, values: Sequence[float], include: Sequence[float] = (), margin: float = 0.06) -> Scale:
        """The finite values with a margin; never empty."""
        known = [v for v in (*values, *include) if math.isfinite(v)]
        low, high = min(known, default=0.0), max(known, default=1.0)
        pad = (high - low) * margin or abs(high) * margin or 1.0
        return cls(low - pad, high + pad)

    @classmethod
    def around_logs(cls, values: Sequence[float]) -> Scale:
        """The same for the positive ones among them, on a logarithmic scale."""
        known = [v for v in values if 0 < v < math.inf]
        low, high = min(known, default=1.0), max(known, default=1.0)
        pad = max(1.15, (high / low) ** 0.06)
        return cls(low / pad, high * pad, log=True)

    @classmethod
    def of_shares(cls, values: Sequence[float], include: Sequence[float] = ()) -> Scale:
        """Shares with a margin, inside 0..1."""
        around = cls.around(values, include, margin=0.04)
        return cls(max(0.0, around.low), min(1.0, around.high), percent=True)

    def label(self, value: float, _: int | None = None) -> str:
        return f"{100 * value if self.percent else value:.6g}".replace("-", MINUS)

    def beside(self, at: float, share: float) -> float:
        """``at``, moved by a share of the axis."""
        if self.log:
            return at * (self.high / self.low) ** share
        return at + share * (self.high - self.low)

    def scale(self, axes: Axes, which: str) -> None:
        """Give limits, scale, ticks and labels to the ``x`` or ``y`` axis of a plot."""
        ruler = getattr(axes, f"{which}axis")
        axes.set(**{f"{which}scale": "log" if self.log else "linear", f"{which}lim": (self.low, self.high)})
        if self.log:
            steps = (1, 2, 5) if self.high / self.low < 300 else (1,)
            ruler.set_major_locator(LogLocator(subs=steps, numticks=12))
        else:
            ruler.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=3))
        ruler.set_minor_locator(NullLocator())
        ruler.set_major_formatter(FuncFormatter(self.label))


@dataclass(frozen=True)
class Level:
    """A dashed line across a plot: chance, no difference, the mean of a null, a reference arm."""

    value: float
    style: int | None = None
    """None: as an axis, in the colour of text."""
    title: str = ""


def _interval(axes: Axes, ends: Range, at: float, style: int, *, upright: bool = False, width: float = 2.2) -> None:
    x, y = ((at, at), ends) if upright else (ends, (at, at))
    axes.add_artist(Line2D(x, y, color=colour(style), linewidth=width, alpha=0.7))


def _mark(axes: Axes, mark: Mark, x: float, y: float) -> None:
    artist = marker(x, y, mark.style, mark.shape, mark.hollow, zorder=3)
    if mark.title:
        artist.set_gid(TOOLTIP + mark.title)
    axes.add_artist(artist)


def _levels(axes: Axes, levels: Sequence[Level], line: Callable[..., Line2D]) -> None:
    for number, level in enumerate(levels):
        look = MUTED if level.style is None else colour(level.style)
        drawn = line(level.value, color=look, linewidth=1.2, linestyle=(0, (4, 3 + 2 * number)))
        if level.title:
            drawn.set_gid(TOOLTIP + level.title)


def _apart(marks: Sequence[Mark], y: float) -> list[float]:
    """Marks with intervals stand a little apart, so that they do not hide each other."""
    several = sum(mark.ci is not None for mark in marks) > 1
    return [y + (0.36 * (i - (len(marks) - 1) / 2) if several else 0.0) for i in range(len(marks))]


def dots(title: str, words: str, rows: Sequence[DotRow], axis: Scale, label: str, levels: Sequence[Level] = ()) -> Plot:
    """Rows of marks on one axis."""
    longest = min(MOST_LABEL, max((len(row.label) for row in rows), default=0))

    def draw(axes: Axes) -> None:
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axis.scale(axes, "x")
        axes.set_yticks(range(len(rows)), [short(row.label) for row in rows])
        axes.grid(axis="x")
        axes.set_xlabel(label)
        _levels(axes, levels, axes.axvline)
        for y, (row, text) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
            text.set_color(PALETTE["fg" if row.marks else "muted"][0])
            text.set_fontweight("normal" if row.marks else "bold")
            if len(row.label) > MOST_LABEL:
                text.set_gid(TOOLTIP + row.label)
            if row.rule:
                axes.axhline(y - 0.5, color=PALETTE["line"][0], linewidth=1)
            for mark, at in zip(row.marks, _apart(row.marks, y), strict=True):
                if mark.ci:
                    _interval(axes, mark.ci, at, mark.style)
                _mark(axes, mark, mark.value, at)

    return Plot(title, words, ROW * len(rows) + FOOT + 6, 14 + CHARACTER * longest, draw)


def scatter(
    title: str, words: str, series: Sequence[Sequence[tuple[float, Mark]]], x: Scale, y: Scale, label: str,
    levels: Sequence[Level] = (), ticks: Sequence[tuple[float, str]] = (), up: str = "",
) -> Plot:  # fmt: skip
    """Series of (x, mark), each joined by a thin line in the order given; marks carry y and its interval.

    ``label`` and ``up`` say what the axes show. ``ticks``: places on the x axis and what stands there instead of
    numbers.
    """
    crowded = sum(len(name) + 1 for _, name in ticks) > 46

    def draw(axes: Axes) -> None:
        _two_axes(axes, x, y, label, levels)
        axes.set_ylabel(up)
        if ticks:
            names = [short(name, 16) for _, name in ticks]
            turn, side = (25, "right") if crowded else (0, "center")
            axes.set_xticks([at for at, _ in ticks], names, rotation=turn, ha=side)
        for one in series:
            places, values = [at for at, _ in one], [mark.value for _, mark in one]
            if len(one) > 1:
                axes.add_artist(Line2D(places, values, color=colour(one[0][1].style), linewidth=1, alpha=0.55))
            for at, mark in one:
                if mark.ci:
                    _interval(axes, mark.ci, at, mark.style, upright=True, width=1)
                _mark(axes, mark, at, mark.value)

    return Plot(title, words, 230, 62 if up else 46, draw)


def curves(
    title: str, words: str, lines: Sequence[Curve], label: str, log: bool = False, levels: Sequence[Level] = ()
) -> Plot:
    """Curves over a common pair of axes; grey ones lie below."""
    drawn = [Curve(tuple(p for p in line.points if not log or p[1] > 0), line.style, line.title) for line in lines]
    drawn = [line for line in sorted(drawn, key=lambda line: line.style != 0) if line.points]
    values = [y for line in drawn for _, y in line.points]
    steps = [x for line in drawn for x, _ in line.points]
    y_axis = Scale.around_logs(values) if log and values else Scale.around(values, [level.value for level in levels])
    first = min(steps, default=0.0)
    x_axis = Scale(first, max(max(steps, default=1.0), first + 1))

    def draw(axes: Axes) -> None:
        _two_axes(axes, x_axis, y_axis, label, levels)
        for line in drawn:
            width, alpha = (1.6, 1.0) if line.style else (1.0, 0.55)
            x, y = zip(*line.points, strict=True)
            one = Line2D(x, y, color=colour(line.style), linewidth=width, alpha=alpha, gid=TOOLTIP + line.title)
            if len(x) == 1:
                one.set(marker="o", markersize=4)
            axes.add_artist(one)

    return Plot(title, words, 210, 52, draw)


def _two_axes(axes: Axes, x: Scale, y: Scale, label: str, levels: Sequence[Level]) -> None:
    x.scale(axes, "x")
    y.scale(axes, "y")
    axes.grid()
    axes.set_xlabel(label)
    _levels(axes, levels, axes.axhline)
