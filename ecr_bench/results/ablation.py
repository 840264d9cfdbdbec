"""What an ablation found: its points read off the board, and paired differences from its references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import pandas as pd

from ecr_bench.arm import Arm, Role
from ecr_bench.results.ablation_schema import AblationResult, Layout, LineDifference, Point, PointDifference, Spot
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.contrasts import TASKS
from ecr_bench.results.divergence import stability_of
from ecr_bench.results.equal_size import EqualSize, PlainSizes, equal_size
from ecr_bench.results.schema import Board, BoardRow
from ecr_bench.runner.ablation import Place
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import Panel, build_panel
from ecr_bench.types import Measure

HEADLINE_GROUP = "unseen"


def build_result(
    layout: Layout, board: Board, records: pd.DataFrame, measures: Sequence[Measure] = ()
) -> AblationResult:
    """Points and references as the board has them; paired differences on unseen languages from the records."""
    precision = ordered_precisions(row.precision for row in board.rows)[0]
    rows = {(r.arm, str(r.group), r.task): r for r in board.rows if r.precision == precision}
    unseen = records[(records["group"] == HEADLINE_GROUP) & (records["precision"] == precision)]
    panel = build_panel(unseen) if len(unseen) else None
    scored = _scored(layout, {arm for arm, _, _ in rows})
    line = _plain_line(layout)
    known = _known_sizes(line, rows)
    unit = _unit(line, known)
    curve = _plain_curve(unit, known)
    sizes = _equal_sizes(scored, curve, panel, precision) if panel and curve else []
    return AblationResult(
        name=layout.name,
        label=layout.label,
        log=layout.log,
        numeric=layout.numeric,
        by_size=layout.by_size,
        precision=precision,
        places=[Spot(series=p.series, label=p.label, at=p.at, arm=p.arm) for p in layout.places],
        points=[
            _point(place.series, place.label, place.at, rows[place.arm, group, task])
            for place in layout.places
            for group, task in _tables(rows)
            if (place.arm, group, task) in rows
        ],
        references=[
            _point(str(arm), "", None, rows[arm, group, task])
            for arm in layout.references
            for group, task in _tables(rows)
            if (arm, group, task) in rows
        ],
        chance={f"{group}/{task}": row.chance for (_, group, task), row in rows.items()},
        differences=list(_differences(scored, panel, precision)) if panel else [],
        between_lines=list(_between_lines(scored, panel, precision)) if panel else [],
        equal_sizes=sizes,
        stability=stability_of(layout.places, measures),
        findings=[found.sentence for found in sizes] + _side(rows, sizes, curve) + _no_unit(unit, curve),
        notes=board.notes,
        provenance=board.provenance,
    )


def _scored(layout: Layout, arms: set[Arm]) -> Layout:
    """Without the arms that have no scores, because all of their cells diverged; the board names those."""
    places = tuple(place for place in layout.places if place.arm in arms)
    return replace(layout, places=places, references=tuple(arm for arm in layout.references if arm in arms))


BoardRows = dict[tuple[Arm, str, str], BoardRow]


def _tables(rows: BoardRows) -> list[tuple[str, str]]:
    """(group, task) pairs the board has, coarse and fine before all."""
    present = dict.fromkeys((group, task) for _, group, task in rows)
    return [pair for pair in present if pair[1] in TASKS]


def _point(series: str, label: str, at: float | None, row: BoardRow) -> Point:
    shared = row.model_dump(include={"group", "task", "mean", "ci", "n_items", "n_seeds", "covers"})
    return Point(series=series, label=label, at=at, arm=row.arm, **shared)


def _differences(layout: Layout, panel: Panel, precision: str) -> Iterator[PointDifference]:
    for place in layout.places:
        for reference in layout.references:
            for task in (task for task in TASKS if task in panel.tasks and place.arm != reference):
                found = compare(panel, str(place.arm), str(reference), precision, precision, task)
                yield PointDifference(
                    series=place.series,
                    label=place.label,
                    reference=reference,
                    task=task,
                    difference=found.value,
                    ci=(found.low, found.high),
                )


def _between_lines(layout: Layout, panel: Panel, precision: str) -> Iterator[LineDifference]:
    """Each line minus those below it, where both have an arm at a value."""
    for one, other in combinations(layout.places, 2):
        if one.series == other.series or one.label != other.label or one.arm == other.arm:
            continue
        for task in (task for task in TASKS if task in panel.tasks):
            found = compare(panel, str(one.arm), str(other.arm), precision, precision, task)
            yield LineDifference(
                series=one.series,
                minus=other.series,
                label=one.label,
                task=task,
                difference=found.value,
                ci=(found.low, found.high),
            )


def _plain_line(layout: Layout) -> list[Place]:
    """The plain models of an axis of sizes; none on another axis."""
    lines: dict[str, list[Place]] = {}
    for place in layout.places if layout.by_size else ():
        lines.setdefault(place.series, []).append(place)
    return next((places for places in lines.values() if places[0].arm.role is Role.PLAIN), [])


def _known_sizes(line: Sequence[Place], rows: BoardRows) -> dict[Arm, int]:
    """Parameters of the plain models that have scores, rising."""
    found = {place.arm: row.parameters for place in line if (row := rows.get((place.arm, HEADLINE_GROUP, "all")))}
    known = {arm: count for arm, count in found.items() if count}
    return dict(sorted(known.items(), key=lambda item: item[1]))


def _unit(line: Sequence[Place], known: dict[Arm, int]) -> Place | None:
    """The smallest plain model, by parameters.

    Nothing tells how many one without scores has, so it is taken for the smallest unless it lies further up the axis.
    """
    measured = {place.arm: place for place in line}
    smallest = next((measured[arm] for arm in known), None)
    lost = sorted((place for place in line if place.arm not in known), key=lambda place: place.at or 0.0)
    smaller = (place for place in lost if smallest is None or (place.at or 0.0) <= (smallest.at or 0.0))
    return next(smaller, smallest)


def _plain_curve(unit: Place | None, known: dict[Arm, int]) -> PlainSizes:
    """Plain models with scores, and their parameters over those of the unit; none where that has no scores."""
    if unit is None or unit.arm not in known:
        return []
    return [(arm, count / known[unit.arm]) for arm, count in known.items()]


def _no_unit(unit: Place | None, curve: PlainSizes) -> list[str]:
    """Why nothing is said about sizes where they are on the axis."""
    if unit is None or curve:
        return []
    named = "the unit" if unit.at is not None else "which may be the smallest, the unit"
    return [f"How large a plain model must be is not computed: {unit.arm}, {named}, has no scores."]


def _equal_sizes(layout: Layout, curve: PlainSizes, panel: Panel, precision: str) -> list[EqualSize]:
    """The headline figure, where the axis is the model size: one line of plain models, others to compare."""
    arms = compared_by_size(layout, curve[0][0].size)
    return [equal_size(panel, precision, arm, curve, task) for arm in arms for task in TASKS if task in panel.tasks]


def compared_by_size(layout: Layout, smallest: str) -> list[Arm]:
    """Arms at the smallest size, on the axis or beside it, of which is said how large a plain model equals them."""
    every = dict.fromkeys([*(place.arm for place in layout.places), *layout.references])
    return [arm for arm in every if arm.size == smallest and arm.role is not Role.PLAIN]


def _side(rows: BoardRows, found: list[EqualSize], curve: PlainSizes) -> list[str]:
    """What ECR itself adds to the small model, so that the factor can be judged."""
    arms = {row.arm: row for row in rows.values()}
    result = []
    for arm in dict.fromkeys(size.arm for size in found):
        total = (arms[arm].parameters or 0) + (arms[arm].side_parameters or 0)
        smallest = curve[0][0]
        times = total / (arms[smallest].parameters or math.nan)
        result.append(f"{arm} with its projection and anchors holds {times:.2f} times the numbers of {smallest}.")
    return result
