"""The one figure style: panels drawn by matplotlib, as SVG in the page's colours or together as one figure.

A panel is ``WIDTH`` pixels wide and says how to draw itself; where it lies and what its colours are is decided here.
Margins are worked out from the labels, without a layout engine, so that equal results are equal files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_path
from ecr_bench.report.svg import to_svg
from ecr_bench.table import Table

WIDTH, ROW, FOOT, HEAD = 360, 19, 36, 22
"""Pixels: width of a panel, height of a line of a dot plot, room for ticks and axis title, room for a panel's title."""
CHARACTER = 6.8
"""Mean advance of a letter of a label, in pixels."""
MOST_LABEL = 24
"""Characters of a label; the tables beside a figure have the whole name."""
PALETTE = {
    "fg": ("#1c2126", "#e4e8ec"), "muted": ("#59636e", "#9aa5b0"), "line": ("#dde2e7", "#2d353d"),
    "bg": ("#ffffff", "#14181c"),
    "s0": ("#7c8792", "#84909c"), "s1": ("#0b62b0", "#63b3f5"), "s2": ("#d55e00", "#f28b4b"),
    "s3": ("#008f69", "#3cc79b"), "s4": ("#b4488a", "#e08fc0"), "s5": ("#9a7000", "#dcb13c"),
    "s6": ("#5f52b8", "#a79cf0"),
}  # fmt: skip
"""Name -> colour on light and on dark ground. s1 to s6 are told apart by colour-blind readers (after Okabe & Ito);
s0 is for controls and others."""
COLOURS = 6
SHAPES = ("o", "s", "^", "D")
STYLE: Any = {
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "ecr-bench",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": PALETTE["line"][0],
    "axes.labelcolor": PALETTE["muted"][0],
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": PALETTE["fg"][0],
    "axes.axisbelow": True,
    "text.parse_math": False,
    "text.color": PALETTE["fg"][0],
    "grid.color": PALETTE["line"][0],
    "grid.linewidth": 1,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.labelcolor": PALETTE["muted"][0],
    "ytick.labelcolor": PALETTE["muted"][0],
    "figure.facecolor": PALETTE["bg"][0],
    "axes.facecolor": "none",
    "legend.frameon": False,
}


def colour(style: int) -> str:
    return PALETTE[f"s{style}"][0]


def short(text: str, limit: int = MOST_LABEL) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Plot:
    """One pair of axes. ``words`` says the same for who does not see it; ``left`` is the room for labels, in pixels."""

    title: str
    words: str
    height: float
    left: float
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Key:
    """A legend entry: colour, and a shape, its outline or a line."""

    label: str
    style: int = 0
    shape: int = 0
    hollow: bool = False
    line: bool = False

    @property
    def artist(self) -> Line2D:
        if self.line:
            return Line2D([0, 14], [7, 7], color=colour(self.style), linewidth=2.4, label=self.label)
        return marker(7, 7, self.style, self.shape, self.hollow, label=self.label)


@dataclass(frozen=True)
class Drawing:
    """Panels under one caption; ``tables`` hold the same numbers in digits. False where there is nothing to draw."""

    title: str
    panels: tuple[Plot, ...] = ()
    caption: str = ""
    keys: tuple[Key, ...] = ()
    tables: tuple[Table, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.panels)

    def figure(self, columns: int = 3) -> Figure:
        """All panels and the legend as one matplotlib figure, at most ``columns`` side by side.

        UserError where there is nothing to draw.
        """
        if not self.panels:
            raise UserError(f"figure {self.title!r}: this run has nothing to draw")
        rows = [self.panels[i : i + columns] for i in range(0, len(self.panels), columns)]
        heights = [HEAD + max(panel.height for panel in row) for row in rows]
        legend = FOOT if self.keys else 0
        with _style():
            figure, total = _canvas(WIDTH * len(rows[0]), sum(heights) + legend)
            top = total - legend
            for row, height in zip(rows, heights, strict=True):
                for column, panel in enumerate(row):
                    axes = _place(figure, panel, column * WIDTH, top - HEAD)
                    axes.set_title(panel.title, x=-panel.left / _room(panel))
                top -= height
            if self.keys:
                handles = [key.artist for key in self.keys]
                figure.legend(handles=handles, loc="upper left", ncols=max(1, len(rows[0]) * 2), handlelength=1)
        return figure

    def svgs(self, name: str) -> Iterator[tuple[str, Markup]]:
        """Title and ``<svg>`` of each panel, to be set side by side by a page. ``name``: start of its ids."""
        for number, panel in enumerate(self.panels):
            with _style():
                figure, _ = _canvas(WIDTH, panel.height)
                _place(figure, panel, 0, panel.height)
                yield panel.title, to_svg(figure, PALETTE, f"{name}-{number}", panel.title, panel.words)


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


def _canvas(width: float, height: float) -> tuple[Figure, float]:
    """72 points an inch and 72 dots an inch: one unit of a figure is one pixel."""
    return Figure(figsize=(width / 72, height / 72), dpi=72), height


def _room(panel: Plot) -> float:
    return WIDTH - panel.left - 12


def _place(figure: Figure, panel: Plot, x: float, top: float) -> Axes:
    """``x`` and ``top``: the panel's upper left corner in pixels from the figure's lower left one."""
    width, height = (72 * size for size in figure.get_size_inches())
    bottom = top - panel.height + FOOT
    axes = figure.add_axes(
        ((x + panel.left) / width, bottom / height, _room(panel) / width, (panel.height - FOOT - 6) / height)
    )
    panel.draw(axes)
    return axes


def save(figure: Figure, path: Path) -> None:
    """Write the figure as ``.svg`` or ``.png``, atomically, without a date, so that equal results are equal files."""
    with _style(), atomic_path(path) as temporary:
        if path.suffix == ".svg":
            temporary.write_text(to_svg(figure, PALETTE, alone=True), encoding="utf-8")
        elif path.suffix == ".png":
            figure.savefig(temporary, format="png", dpi=144, metadata={"Software": None})
        else:
            raise UserError(f"{path}: a figure is written as .svg or .png")


def palette_css() -> str:
    """The colours as CSS variables for light, dark and print."""
    light, dark = ("".join(f"--{name}:{pair[side]};" for name, pair in PALETTE.items()) for side in (0, 1))
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n@media print{{:root{{{light}}}}}\n"
    )


@cache
def icon(key: Key) -> Markup:
    """The sign of a legend entry, 14 pixels square."""
    with _style():
        figure, _ = _canvas(14, 14)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, 14), ylim=(0, 14))
        axes.add_artist(key.artist)
        return to_svg(figure, PALETTE)


def marker(x: float, y: float, style: int, shape: int = 0, hollow: bool = False, **options: Any) -> Line2D:
    """A point: circle, square, triangle or diamond, so that colour is never the only difference."""
    face = PALETTE["bg"][0] if hollow else colour(style)
    return Line2D(
        [x], [y], linestyle="none", marker=SHAPES[shape % len(SHAPES)], markersize=7 if shape < 3 else 6.4,
        markerfacecolor=face, markeredgecolor=colour(style), markeredgewidth=1.6, **options,
    )  # fmt: skip


def shape_of(style: int) -> int:
    return (style - 1) % len(SHAPES) if style else 0
