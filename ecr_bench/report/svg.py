"""Small inline SVG charts that follow the page's colours: dot plots, scatter plots and line plots.

Each returns one ``<svg role="img">`` whose label says what is drawn; classes ``s0``..``s6`` are the arm colours of
templates/style.css (0 is grey). Everything is built with ElementTree, which escapes names and labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from markupsafe import Markup

WIDTH = 360
ROW = 19
FOOT = 34
"""Pixels under the plot for tick labels and the axis title."""
CHARACTER = 6.3
"""Mean advance of a letter in the 11.5 px label font."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A point with an optional interval; ``hollow`` draws the outline only."""

    value: float
    style: int = 0
    ci: Interval | None = None
    hollow: bool = False
    title: str = ""
    shape: int = 0


@dataclass(frozen=True)
class DotRow:
    """One line of a dot plot; without marks it is a heading."""

    label: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Line:
    points: tuple[tuple[float, float], ...]
    style: int = 0
    title: str = ""


@dataclass(frozen=True)
class Axis:
    """Data range, mapped onto pixels ``start``..``stop``; ticks are (value, label)."""

    low: float
    high: float
    log: bool = False
    percent: bool = False

    def place(self, value: float, start: float, stop: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return start + (stop - start) * min(1.0, max(0.0, share))

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        values = log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high, wanted)
        return [(value, self.label(value)) for value in values]

    def label(self, value: float) -> str:
        return f"{100 * value if self.percent else value:.6g}".replace("-", "\N{MINUS SIGN}")


def linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 x 10^k inside [low, high], about ``wanted`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 x 10^k inside [low, high]; powers of ten only where the range is wide."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]


def span(values: Sequence[float], include: Sequence[float] = (), margin: float = 0.06) -> Interval:
    """Range of the finite values with a margin; never empty."""
    known = [v for v in (*values, *include) if math.isfinite(v)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    pad = (high - low) * margin or abs(high) * margin or 1.0
    return low - pad, high + pad


def log_span(values: Sequence[float]) -> Interval:
    """The same for positive values on a logarithmic axis."""
    low, high = min(values), max(values)
    pad = max(1.15, (high / low) ** 0.06)
    return low / pad, high * pad


def _root(height: float, label: str) -> ET.Element:
    root = ET.Element("svg", {"class": "chart", "role": "img", "viewBox": f"0 0 {WIDTH} {height:g}"})
    root.set("aria-label", label)
    return root


def _line(root: ET.Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    place = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    ET.SubElement(root, "line", {"class": kind, **{k: f"{v:.1f}" for k, v in place.items()}})


def _text(root: ET.Element, kind: str, x: float, y: float, text: str) -> ET.Element:
    element = ET.SubElement(root, "text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}"})
    element.text = text
    return element


def _mark(root: ET.Element, mark: Mark, x: float, y: float) -> None:
    """Circle, square, triangle or diamond, so that colour is never the only difference."""
    kind = f"mark s{mark.style}" + (" hollow" if mark.hollow else "")
    if mark.shape == 0:
        element = ET.SubElement(root, "circle", {"class": kind, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"})
    else:
        corners = {
            1: ((-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)),
            2: ((0, -4.8), (4.6, 3.4), (-4.6, 3.4)),
            3: ((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)),
        }[mark.shape]
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        element = ET.SubElement(root, "polygon", {"class": kind, "points": points})
    if mark.title:
        ET.SubElement(element, "title").text = mark.title


def _x_axis(root: ET.Element, axis: Axis, left: float, right: float, top: float, bottom: float, title: str) -> None:
    last = -math.inf
    for value, text in axis.ticks():
        x = axis.place(value, left, right)
        _line(root, "grid", x, top, x, bottom)
        if x - last >= CHARACTER * len(text) + 8:
            _text(root, "tick mid", x, bottom + 13, text)
            last = x
    _text(root, "axis mid", (left + right) / 2, bottom + 28, title)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _done(root: ET.Element) -> Markup:
    return Markup(ET.tostring(root, encoding="unicode"))


def dot_plot(rows: Sequence[DotRow], axis: Axis, label: str, title: str, reference: float | None = None) -> Markup:
    """Rows of marks on one axis, with an optional vertical reference line (chance, or no difference)."""
    longest = max((len(row.label) for row in rows), default=0)
    left = min(150.0, 14 + CHARACTER * longest)
    right, top = WIDTH - 10.0, 6.0
    bottom = top + ROW * len(rows)
    root = _root(bottom + FOOT, label)
    _x_axis(root, axis, left, right, top, bottom, title)
    if reference is not None:
        x = axis.place(reference, left, right)
        _line(root, "reference", x, top, x, bottom)
    for i, row in enumerate(rows):
        y = top + ROW * (i + 0.5)
        text = _text(root, "label" if row.marks else "label head", 0, y + 4, _short(row.label, int(left / CHARACTER)))
        ET.SubElement(text, "title").text = row.label
        for mark in row.marks:
            if mark.ci:
                ends = [axis.place(v, left, right) for v in mark.ci]
                _line(root, f"interval s{mark.style}", ends[0], y, ends[1], y)
        for mark in row.marks:
            _mark(root, mark, axis.place(mark.value, left, right), y)
    return _done(root)


def _frame(
    x_axis: Axis, y_axis: Axis, label: str, x_title: str, height: float
) -> tuple[ET.Element, Interval, Interval]:
    """A plot with both axes; returns (root, pixel range of x, pixel range of y)."""
    ticks = y_axis.ticks()
    left = 12 + CHARACTER * max((len(text) for _, text in ticks), default=1)
    right, top, bottom = WIDTH - 10.0, 8.0, height - FOOT
    root = _root(height, label)
    for value, text in ticks:
        y = y_axis.place(value, bottom, top)
        _line(root, "grid", left, y, right, y)
        _text(root, "tick end", left - 6, y + 4, text)
    _x_axis(root, x_axis, left, right, top, bottom, x_title)
    return root, (left, right), (bottom, top)


def scatter_plot(
    groups: Sequence[Sequence[tuple[float, Mark]]],
    x_axis: Axis,
    y_axis: Axis,
    label: str,
    x_title: str,
    reference: float | None = None,
) -> Markup:
    """Groups of (x, mark), each joined by a thin line in the order given; marks carry y and its interval."""
    root, xs, ys = _frame(x_axis, y_axis, label, x_title, 230)
    if reference is not None:
        y = y_axis.place(reference, *ys)
        _line(root, "reference", xs[0], y, xs[1], y)
    for group in groups:
        placed = [(x_axis.place(x, *xs), y_axis.place(mark.value, *ys), mark) for x, mark in group]
        if len(placed) > 1:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
            ET.SubElement(root, "polyline", {"class": f"join s{placed[0][2].style}", "points": points})
        for x, y, mark in placed:
            if mark.ci:
                low, high = (y_axis.place(v, *ys) for v in mark.ci)
                _line(root, f"interval thin s{mark.style}", x, low, x, high)
            _mark(root, mark, x, y)
    return _done(root)


def line_plot(
    lines: Sequence[Line], label: str, x_title: str, log: bool = False, reference: float | None = None
) -> Markup:
    """Curves over a common pair of axes, with an optional horizontal reference line; grey ones lie below."""
    values = [y for line in lines for _, y in line.points if not log or y > 0]
    values += [] if reference is None else [reference]
    steps = [x for line in lines for x, _ in line.points]
    y_axis = Axis(*(log_span(values) if log and values else span(values)), log=log and bool(values))
    root, xs, ys = _frame(Axis(min(steps, default=0), max(steps, default=1)), y_axis, label, x_title, 210)
    if reference is not None:
        y = y_axis.place(reference, *ys)
        _line(root, "reference", xs[0], y, xs[1], y)
    for line in sorted(lines, key=lambda line: line.style != 0):
        drawn = [(x, y) for x, y in line.points if not log or y > 0]
        points = " ".join(
            f"{Axis(min(steps), max(steps)).place(x, *xs):.1f},{y_axis.place(y, *ys):.1f}" for x, y in drawn
        )
        element = ET.SubElement(root, "polyline", {"class": f"curve s{line.style}", "points": points})
        ET.SubElement(element, "title").text = line.title
    return _done(root)
