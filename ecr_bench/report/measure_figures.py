"""What the page draws of measures.json: each measure at the end and over the steps of training, controls beside."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

from ecr_bench.metrics.registry import GROUPS, METRICS
from ecr_bench.report.figures import Figure, Key, Panel, shape_of
from ecr_bench.report.measure_tables import CAPTION, measure_table
from ecr_bench.report.svg import Axis, DotRow, Line, Mark, dot_plot, line_plot, span
from ecr_bench.report.tables import DASH, Table
from ecr_bench.results.words import MINUS
from ecr_bench.types import Measure

OTHERS = "other measures"


def groups(measures: Iterable[Measure]) -> dict[str, dict[str, str]]:
    """Group -> metric -> title, for the metrics that were measured; unknown ones in a group of their own."""
    present = {m.metric for m in measures if m.value is not None}
    ordered = [*(name for name in METRICS if name in present), *sorted(present - set(METRICS))]
    result: dict[str, dict[str, str]] = {}
    for name in ordered:
        title = METRICS.help.get(name) or name.replace("_", " ")
        result.setdefault(GROUPS.get(name, OTHERS).capitalize(), {})[name] = title[0].upper() + title[1:]
    return result


def measure_figures(measures: list[Measure], styles: dict[str, int]) -> list[tuple[str, list[tuple[str, Figure]]]]:
    """(group, its figures with their titles); a figure without data is left out."""
    whole = [m for m in measures if m.value is not None and not m.lang and m.precision == "fp32"]
    result = []
    for name, titles in groups(measures).items():
        mine = [m for m in whole if m.metric in titles]
        drawn = [
            ("At the end of training", _final(mine, titles, styles, _language_tables(measures, titles))),
            ("Over the steps of fine-tuning", _curves(mine, titles, styles)),
        ]
        if shown := [(title, figure) for title, figure in drawn if figure]:
            result.append((name, shown))
    return result


def _arm(m: Measure) -> str:
    return str(m.arm)


def _ordered(measures: Iterable[Measure], styles: dict[str, int]) -> list[str]:
    """Coloured arms first, then controls and others by name."""
    return sorted({_arm(m) for m in measures}, key=lambda arm: (styles.get(arm, 0) or 99, arm))


def _null(measures: Iterable[Measure]) -> float | None:
    nulls = [m.null[0] for m in measures if m.null is not None]
    return mean(nulls) if nulls else None


def shown(value: float) -> str:
    """Three significant digits, without an exponent where that is short."""
    return f"{value:.3g}".replace("-", MINUS)


def _final(
    measures: list[Measure], titles: dict[str, str], styles: dict[str, int], by_language: tuple[Table, ...]
) -> Figure:
    """One panel per metric: arms in lines, one mark per seed."""
    panels = []
    final = [m for m in measures if m.step is None]
    for metric, title in titles.items():
        mine = [m for m in final if m.metric == metric]
        if not mine:
            continue
        rows = []
        for arm in _ordered(mine, styles):
            style = styles.get(arm, 0)
            values = [m for m in mine if _arm(m) == arm]
            marks = (Mark(_v(m), style, title=f"seed {m.seed}: {shown(_v(m))}", shape=shape_of(style)) for m in values)
            rows.append(DotRow(arm, tuple(marks)))
        null = _null(mine)
        axis = Axis(*span([_v(m) for m in mine], [] if null is None else [null]))
        label = f"{title}. " + "; ".join(f"{row.label} {', '.join(m.title for m in row.marks)}" for row in rows)
        panels.append(Panel(title, dot_plot(rows, axis, label, metric, null)))
    caption = "One mark per seed; controls in grey."
    if any(m.null for m in final):
        caption += " Control tokens alone can make clusters. Dashed: mean under the permutation null."
    numbers = (measure_table("Measures at the end", list(titles), final, CAPTION), *by_language)
    return Figure(tuple(panels), caption, (), numbers if panels else ())


def _v(measure: Measure) -> float:
    assert measure.value is not None
    return measure.value


def _language_tables(measures: list[Measure], titles: dict[str, str]) -> tuple[Table, ...]:
    """Per metric: languages x arms, mean over seeds, where a metric was taken by language."""
    result = []
    for metric, title in titles.items():
        mine = [m for m in measures if m.metric == metric and m.lang and m.step is None and m.value is not None]
        arms = list(dict.fromkeys(_arm(m) for m in mine))
        found: dict[tuple[str, str], list[float]] = {}
        for m in mine:
            found.setdefault((m.lang, _arm(m)), []).append(_v(m))
        lines = tuple(
            (lang, *(shown(mean(found[lang, arm])) if (lang, arm) in found else DASH for arm in arms))
            for lang in sorted({m.lang for m in mine})
        )
        if lines:
            result.append(Table(f"{title}, by language", ("language", *arms), (lines,)))
    return tuple(result)


def _curves(measures: list[Measure], titles: dict[str, str], styles: dict[str, int]) -> Figure:
    """One panel per metric: a line per cell over the snapshots."""
    panels = []
    snapshots = [m for m in measures if m.step is not None]
    for metric, title in titles.items():
        mine = [m for m in snapshots if m.metric == metric]
        by_cell: dict[str, list[Measure]] = {}
        for m in mine:
            by_cell.setdefault(m.cell, []).append(m)
        lines = []
        for cell, points in by_cell.items():
            points.sort(key=lambda m: m.step or 0)
            drawn = tuple((float(m.step or 0), _v(m)) for m in points)
            lines.append(Line(drawn, styles.get(_arm(points[0]), 0), cell))
        if any(len(line.points) > 1 for line in lines):
            ends = "; ".join(f"{line.title} ends at {shown(line.points[-1][1])}" for line in lines)
            panels.append(Panel(title, line_plot(lines, f"{title}. {ends}", "step", reference=_null(mine))))
    arms = _ordered(snapshots, styles)
    keys = [Key(arm, styles[arm], line=True) for arm in arms if styles.get(arm)]
    if any(not styles.get(arm) for arm in arms):
        keys.append(Key("controls and others", line=True))
    return Figure(tuple(panels), "", tuple(keys))
