"""An ablation as a figure of the page: every value of the axis and every reference, one panel per split and task."""

from __future__ import annotations

from ecr_bench.report.ablation_page import grids
from ecr_bench.report.figures import Figure, Key, Panel
from ecr_bench.report.svg import Axis, DotRow, Mark, dot_plot, span
from ecr_bench.report.tables import Table, percent
from ecr_bench.results.ablation_schema import AblationResult, Point


def ablation_figure(result: AblationResult | None) -> Figure:
    """Empty without an ablation."""
    if result is None:
        return Figure((), "")
    series = list(dict.fromkeys(point.series for point in result.points))
    panels = [_panel(result, split, task, series) for split, task in result.panels()]
    keys = tuple(Key(name, i % 6 + 1, i % 4) for i, name in enumerate(series))
    shown = tuple(Table(title, heads, (tuple(lines),)) for title, heads, lines in grids(result))
    caption = f"Accuracy in % against {result.label}, {result.precision}, with 95 % intervals; dashed: chance."
    return Figure(tuple(panels), caption, keys, shown)


def _panel(result: AblationResult, split: str, task: str, series: list[str]) -> Panel:
    mine = [p for p in result.points if (p.split, p.task) == (split, task)]
    references = [p for p in result.references if (p.split, p.task) == (split, task)]
    rows = [
        DotRow(label, tuple(_mark(p, series) for p in mine if p.label == label))
        for label in dict.fromkeys(p.label for p in mine)
    ]
    if references:
        rows += [DotRow("references"), *(DotRow(str(p.arm), (_mark(p, series),)) for p in references)]
    chance = result.chance[f"{split}/{task}"]
    low, high = span([v for p in (*mine, *references) for v in p.ci], [chance], margin=0.04)
    label = f"{task}, {split} languages. " + "; ".join(
        f"{row.label}: " + ", ".join(m.title for m in row.marks) for row in rows if row.marks
    )
    axis = Axis(max(0.0, low), min(1.0, high), percent=True)
    return Panel(f"{task.capitalize()} tasks, {split}", dot_plot(rows, axis, label, "accuracy in %", chance))


def _mark(point: Point, series: list[str]) -> Mark:
    number = series.index(point.series) if point.label else -1
    title = f"{point.arm} {percent(point.mean)} %"
    return Mark(point.mean, number % 6 + 1 if number >= 0 else 0, point.ci, False, title, max(0, number) % 4)
