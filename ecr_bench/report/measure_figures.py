"""What the page draws of measures.json: each measure at the end and over the steps of training, controls beside."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

from ecr_bench.report.figures import Figure, Key, Panel, shape_of
from ecr_bench.report.svg import Axis, DotRow, Line, Mark, dot_plot, line_plot, span
from ecr_bench.report.tables import DASH, Table
from ecr_bench.statistics.panel import arm_name
from ecr_bench.statistics.words import MINUS
from ecr_bench.types import Measure

GROUPS: dict[str, dict[str, str]] = {
    "Drift from the base model": {
        "cka_base": "Linear CKA with the base; 1: same geometry",
        "procrustes_base": "Procrustes distance to the base; 0: same",
        "code_stability": "Codes kept; 1: all",
        "code_stability_trained": "Codes kept, read off the trained model",
    },
    "Manifold": {
        "intrinsic_dimension": "Intrinsic dimension (TwoNN)",
        "isoscore": "IsoScore; 1: all directions used alike",
        "trustworthiness": "Trustworthiness against the teacher",
        "continuity": "Continuity against the teacher",
        "mutual_knn_teacher": "Neighbours shared with the teacher",
    },
    "Across languages": {
        "mexa": "MEXA alignment",
        "retrieval": "Translation retrieved, both ways",
        "retrieval_to_pivot": "English translation retrieved",
        "retrieval_from_pivot": "Translation from English retrieved",
        "rankc": "Options ranked alike (RankC)",
        "hubness": "Hubness; lower is better",
        "language_separability": "Language told apart; lower is better",
        "sts_spearman": "Sentence similarity (Spearman)",
        "bitext_retrieval": "Bitext retrieved",
    },
    "Stability of training": {
        "spike_score": "Spike score; lower is better",
        "loss_spikes": "Loss spikes",
        "grad_norm_median": "Median gradient norm",
        "grad_norm_p95": "Gradient norm, 95 % quantile",
        "grad_norm_max": "Largest gradient norm",
        "diverged": "Share of runs that diverged",
    },
}


PLAIN = "_plain"
"""Ends the name of a measure of the same texts without control tokens; it stands behind its twin."""


def groups(measures: Iterable[Measure]) -> dict[str, dict[str, str]]:
    """Group -> metric -> title, for the metrics that were measured; unknown ones in a group of their own."""
    present = dict.fromkeys(m.metric for m in measures if m.value is not None)
    named = {
        name: {
            metric + end: title + ("; no control tokens" if end else "")
            for metric, title in titles.items()
            for end in ("", PLAIN)
        }
        for name, titles in GROUPS.items()
    }
    known = {metric for titles in named.values() for metric in titles}
    found = {name: {m: title for m, title in titles.items() if m in present} for name, titles in named.items()}
    others = {metric: metric.replace("_", " ").capitalize() for metric in present if metric not in known}
    return {name: titles for name, titles in {**found, "Other measures": others}.items() if titles}


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
    return arm_name(m.method, m.size)


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
    return Figure(tuple(panels), caption, (), (_table(final, titles, styles), *by_language) if panels else ())


def _v(measure: Measure) -> float:
    assert measure.value is not None
    return measure.value


def _table(final: list[Measure], titles: dict[str, str], styles: dict[str, int]) -> Table:
    """Arms x metrics: mean over seeds; a star where every seed lies inside the permutation null."""
    metrics = [metric for metric in titles if any(m.metric == metric for m in final)]
    lines = []
    for arm in _ordered(final, styles):
        cells = []
        for metric in metrics:
            mine = [m for m in final if m.metric == metric and _arm(m) == arm]
            inside = mine and all(m.null is not None and m.null[1] <= _v(m) <= m.null[2] for m in mine)
            cells.append((shown(mean(map(_v, mine))) if mine else DASH) + ("*" if inside else ""))
        seeds = len({m.seed for m in final if _arm(m) == arm})
        lines.append((arm, str(seeds), *cells))
    nulls = tuple(
        DASH if (null := _null(m for m in final if m.metric == metric)) is None else shown(null) for metric in metrics
    )
    caption = "mean over seeds; * inside the 95 % range of the permutation null; last line: mean of that null"
    return Table("Measures at the end", ("arm", "seeds", *metrics), (tuple(lines), (("null", "", *nulls),)), caption)


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
