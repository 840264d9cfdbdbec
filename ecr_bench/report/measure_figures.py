"""Figures of what was measured beside accuracy: each measure at the end and over the steps, and training curves."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from ecr_bench.arm import Arm
from ecr_bench.formats import number
from ecr_bench.metrics.registry import ASPECTS, METRICS
from ecr_bench.names import file_name
from ecr_bench.report.drawing import COLOURS, Drawing, Key, shape_of
from ecr_bench.report.figures import Styles, arm_styles, figure, keys_of
from ecr_bench.report.measure_tables import CAPTION, language_tables, measure_table
from ecr_bench.report.plots import Curve, DotRow, Level, Mark, Scale, curves, dots
from ecr_bench.report.tensorboard import Points, read_curves
from ecr_bench.run import Run
from ecr_bench.table import Table
from ecr_bench.types import Measure

OTHERS = "other measures"
OTHER_LINES = Key("controls and others", line=True)
CURVES = {"train/loss": "Training loss", "val/loss": "Validation loss", "train/grad_norm": "Gradient norm"}
WIDE = 1000.0
"""The largest value over the smallest from which on a linear axis shows but the largest."""
Titles = Mapping[str, str]


def aspects(measures: Iterable[Measure]) -> dict[str, dict[str, str]]:
    """Aspect -> metric -> title, for the metrics that were measured; unknown ones as an aspect of their own."""
    present = {m.metric for m in measures if m.value is not None}
    ordered = [*(name for name in METRICS if name in present), *sorted(present - set(METRICS))]
    result: dict[str, dict[str, str]] = {}
    for name in ordered:
        title = METRICS.help.get(name) or name.replace("_", " ")
        result.setdefault(ASPECTS.get(name, OTHERS).capitalize(), {})[name] = title[0].upper() + title[1:]
    return result


def measure_drawings(run: Run) -> list[tuple[str, list[Drawing]]]:
    """(aspect, its drawings); one without data is left out."""
    drawn = [(name, [_final(run, titles), _over_steps(run, titles)]) for name, titles in aspects(run.measures).items()]
    return [(name, found) for name, both in drawn if (found := [d for d in both if d])]


@figure("measures")
def measures_at_the_end(run: Run) -> Drawing:
    """Every measure of the finished cells, one mark per seed."""
    return _final(run, {name: title for titles in aspects(run.measures).values() for name, title in titles.items()})


@figure("measures-over-steps")
def measures_over_steps(run: Run) -> Drawing:
    """Every measure over the steps of fine-tuning."""
    return _over_steps(
        run, {name: title for titles in aspects(run.measures).values() for name, title in titles.items()}
    )


def _whole(run: Run, titles: Titles) -> list[Measure]:
    """What was measured over all languages at the reference precision."""
    return [
        m for m in run.measures if m.metric in titles and m.value is not None and not m.lang and m.precision == "fp32"
    ]


def _ordered(measures: Iterable[Measure], styles: Styles) -> list[Arm]:
    """Coloured arms first, then controls and others by name."""
    return sorted({m.arm for m in measures}, key=lambda arm: (styles.get(arm, 0) or 99, str(arm)))


def _null(measures: Iterable[Measure]) -> list[Level]:
    nulls = [m.null[0] for m in measures if m.null is not None]
    return [Level(mean(nulls))] if nulls else []


def _value(measure: Measure) -> float:
    assert measure.value is not None
    return measure.value


def _final(run: Run, titles: dict[str, str]) -> Drawing:
    """One panel per metric: arms in lines, one mark per seed."""
    styles = arm_styles(run.board)
    final = [m for m in _whole(run, titles) if m.step is None]
    panels = []
    for metric, title in titles.items():
        mine = [m for m in final if m.metric == metric]
        if not mine:
            continue
        rows = [
            DotRow(str(arm), tuple(_seed(m, styles.get(arm, 0)) for m in mine if m.arm == arm))
            for arm in _ordered(mine, styles)
        ]
        levels = _null(mine)
        axis = scale_of([_value(m) for m in mine], [level.value for level in levels])
        words = f"{title}. " + "; ".join(f"{row.label} {', '.join(m.title for m in row.marks)}" for row in rows)
        panels.append(dots(title, words, rows, axis, metric, levels))
    caption = "One mark per seed; controls in grey."
    if any(m.null for m in final):
        caption += " Control tokens alone can make clusters. Dashed: mean under the permutation null."
    shown = (measure_table("Measures at the end", list(titles), final, CAPTION), *language_tables(run.measures, titles))
    return Drawing("At the end of training", tuple(panels), caption, (), tuple(t for t in shown if t))


def scale_of(values: Sequence[float], levels: Sequence[float]) -> Scale:
    """Logarithmic where the largest would leave nothing to see of the others, as gradient norms do."""
    if min(values) > 0 and not levels and max(values) > WIDE * min(values):
        return Scale.around_logs(values)
    return Scale.around(values, levels)


def _seed(measure: Measure, style: int) -> Mark:
    value = _value(measure)
    return Mark(value, style, title=f"seed {measure.seed}: {number(value)}", shape=shape_of(style))


def _over_steps(run: Run, titles: dict[str, str]) -> Drawing:
    """One panel per metric: a line per cell over the snapshots."""
    styles = arm_styles(run.board)
    snapshots = [m for m in _whole(run, titles) if m.step is not None]
    panels = []
    for metric, title in titles.items():
        mine = [m for m in snapshots if m.metric == metric]
        by_cell: dict[str, list[Measure]] = {}
        for m in sorted(mine, key=lambda m: m.step or 0):
            by_cell.setdefault(m.cell, []).append(m)
        lines = [
            Curve(tuple((float(m.step or 0), _value(m)) for m in points), styles.get(points[0].arm, 0), cell)
            for cell, points in by_cell.items()
        ]
        if any(len(line.points) > 1 for line in lines):
            panels.append(curves(title, f"{title}. {_ends(lines)}", lines, "step", levels=_null(mine)))
    arms = _ordered(snapshots, styles)
    return Drawing("Over the steps of fine-tuning", tuple(panels), "", _line_keys(styles, arms))


def _ends(lines: Iterable[Curve]) -> str:
    return "; ".join(f"{line.title} ends at {number(line.points[-1][1])}" for line in lines)


def _line_keys(styles: Styles, arms: Sequence[Arm]) -> tuple[Key, ...]:
    others = any(not styles.get(arm) for arm in arms)
    return keys_of(styles, arms, line=True) + ((OTHER_LINES,) if others else ())


_read: weakref.WeakKeyDictionary[Run, dict[str, dict[str, Points]]] = weakref.WeakKeyDictionary()


def curves_of(run: Run) -> dict[str, dict[str, Points]]:
    """Cell or base -> tag -> its curve, from ``tensorboard/`` in the run's folder; read once."""
    if run not in _read:
        _read[run] = read_curves(run.folder / "tensorboard") if run.folder else {}
    return _read[run]


@figure("training")
def training(run: Run) -> Drawing:
    """Loss and gradient norm of every cell over the steps of fine-tuning."""
    styles, arms = arm_styles(run.board), {file_name(cell.cell): cell.arm for cell in run.cells}
    found = {cell: by_tag for cell, by_tag in curves_of(run).items() if cell in arms}
    colours = {cell: styles.get(arms[cell], 0) for cell in found}
    keys = _line_keys(styles, list(dict.fromkeys(arms[cell] for cell in found)))
    return _training("Fine-tuning of every cell", found, colours, keys)


@figure("pretraining")
def pretraining(run: Run) -> Drawing:
    """Loss and gradient norm of the shared base models over the steps of pre-training."""
    cells = {file_name(cell.cell) for cell in run.cells}
    found = {name: by_tag for name, by_tag in curves_of(run).items() if name not in cells}
    colours = {name: i + 1 if i < COLOURS else 0 for i, name in enumerate(found)}
    keys = tuple(Key(name, style, line=True) for name, style in colours.items() if style)
    return _training("Pre-training of the shared base models", found, colours, keys)


def _training(
    title: str, found: Mapping[str, Mapping[str, Points]], colours: Mapping[str, int], keys: tuple[Key, ...]
) -> Drawing:
    panels = []
    for tag, name in CURVES.items():
        lines = [Curve(by_tag[tag], colours[cell], cell) for cell, by_tag in found.items() if tag in by_tag]
        if lines:
            log = tag == "train/grad_norm"
            panels.append(curves(name + ", log scale" * log, f"{name}. {_ends(lines)}", lines, "step", log))
    return Drawing(title, tuple(panels), "", keys if panels else (), (_last(found),) if panels else ())


def _last(found: Mapping[str, Mapping[str, Points]]) -> Table:
    tags = [tag for tag in CURVES if any(tag in by_tag for by_tag in found.values())]
    lines = (
        (cell, *(number(by_tag[tag][-1][1] if tag in by_tag else None, 3) for tag in tags))
        for cell, by_tag in found.items()
    )
    return Table.of("Last logged values", ("run", *(CURVES[tag].lower() for tag in tags)), lines)
