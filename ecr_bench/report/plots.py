"""The plot of an ablation: small multiples of accuracy against the axis, one figure for PNG and for HTML."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ecr_bench.io import atomic_path
from ecr_bench.results.ablation_schema import AblationResult, Point

# Okabe & Ito: told apart by colour-blind readers; each has a paler twin for dark pages
SERIES = (("#0072b2", "#56b4e9"), ("#d55e00", "#ff9a4d"), ("#009e73", "#3ddcad"), ("#aa4499", "#e49ad0"))
MARKERS = ("o", "s", "^", "D")
REFERENCES = (("#6b7280", "#9aa3b2"), ("#a1793f", "#d9b170"))
INK, GRID, PAPER = ("#1f2933", "#e5e7eb"), ("#d7dce2", "#3a4450"), ("#ffffff", "#14181d")
THEME = (*SERIES, *REFERENCES, INK, GRID, PAPER)
"""(light, dark) of every colour drawn; ``to_svg`` turns the first into a CSS variable."""
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "ecr-bench",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK[0],
    "axes.labelcolor": INK[0],
    "axes.titlecolor": INK[0],
    "text.color": INK[0],
    "xtick.color": INK[0],
    "ytick.color": INK[0],
    "figure.facecolor": PAPER[0],
    "axes.facecolor": PAPER[0],
    "legend.frameon": False,
}


def draw(result: AblationResult) -> Figure:
    """One small plot for each split and grain; whiskers and bands are 95 % intervals, dots mark chance."""
    with matplotlib.rc_context(STYLE):
        panels = result.panels()
        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(4.4 * columns, 2.9 * rows + 0.6), layout="constrained", dpi=150)
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axes, (split, task) in zip(grid, panels, strict=False):
            _panel(axes, result, split, task)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
        figure.supxlabel(result.label, fontsize=10)
        return figure


def _panel(axes: Axes, result: AblationResult, split: str, task: str) -> None:
    axes.set_title(f"{task}, {split} languages", fontsize=10, loc="left")
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=GRID[0], linewidth=0.7)
    axes.axhline(100 * result.chance[f"{split}/{task}"], color=INK[0], linewidth=0.9, linestyle=":", label="chance")
    references = [p for p in result.references if (p.split, p.task) == (split, task)]
    for point, (colour, _) in zip(references, REFERENCES, strict=False):
        axes.axhspan(100 * point.ci[0], 100 * point.ci[1], color=colour, alpha=0.16, linewidth=0)
        axes.axhline(100 * point.mean, color=colour, linewidth=1.2, linestyle="--", label=str(point.arm))
    places = _places(result)
    lines = list(dict.fromkeys(point.series for point in result.points))
    for number, series in enumerate(lines):
        points = [p for p in result.points if (p.series, p.split, p.task) == (series, split, task)]
        _line(axes, result, series, points, places, number, len(lines))
    if result.log:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(places.values()))))
    axes.xaxis.set_minor_locator(NullLocator())
    ordered = sorted(places, key=lambda label: places[label])
    crowded = sum(map(len, ordered)) > 40
    axes.set_xticklabels(ordered, rotation=25 if crowded else 0, ha="right" if crowded else "center")


def _places(result: AblationResult) -> dict[str, float]:
    """Value label -> position."""
    labels = list(dict.fromkeys(point.label for point in result.points))
    if not result.numeric:
        return {label: float(index) for index, label in enumerate(labels)}
    return {point.label: float(point.at or 0.0) for point in result.points}


def _line(
    axes: Axes, result: AblationResult, series: str, points: list[Point], places: dict[str, float],
    number: int, count: int,
) -> None:  # fmt: skip
    off_centre = number - (count - 1) / 2
    where = [_beside(places[point.label], off_centre, places, result) for point in points]
    means = [100 * point.mean for point in points]
    below = [100 * (point.mean - point.ci[0]) for point in points]
    above = [100 * (point.ci[1] - point.mean) for point in points]
    axes.errorbar(
        where,
        means,
        yerr=[below, above],
        color=SERIES[number % len(SERIES)][0],
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        linewidth=1.6 if result.numeric else 0,
        elinewidth=1.2,
        capsize=2.5,
        label=series,
    )


def _beside(place: float, off_centre: float, places: dict[str, float], result: AblationResult) -> float:
    """Lines stand a little apart, so that their whiskers do not hide each other."""
    if result.log:
        return place * (max(places.values()) / min(places.values())) ** (0.012 * off_centre)
    if result.numeric:
        return place + 0.012 * off_centre * (max(places.values()) - min(places.values()))
    return place + 0.09 * off_centre


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically and without a date, so that equal results are equal files."""
    with matplotlib.rc_context(STYLE), atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def to_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element whose colours are CSS variables ``--c0``, ``--c1``, ... of ``THEME``."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for index, (light, _) in enumerate(THEME):
        text = re.sub(light, f"var(--c{index})", text, flags=re.IGNORECASE)
    return re.sub(r'(<svg[^>]*?) height="[^"]*"| width="[^"]*pt"', r"\1", text, count=2)
