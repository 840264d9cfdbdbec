"""An ablation on paper: run it, read its points off the board, write ``ablation.json``, ``md``, ``png``, ``html``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from ecr_bench.evaluation.records import read_records
from ecr_bench.io import write_json, write_text
from ecr_bench.report.ablation_page import to_html, to_markdown
from ecr_bench.report.ablation_schema import AblationResult, Difference, Point
from ecr_bench.report.contrasts import TASKS
from ecr_bench.report.divergence import stability_of
from ecr_bench.report.equal_size import EqualSize, equal_size
from ecr_bench.report.page import write_page
from ecr_bench.report.plots import draw, save_png, to_svg
from ecr_bench.report.publish import finished_measures, run_and_publish
from ecr_bench.report.schema import Board, Row
from ecr_bench.report.tables import reference_precision
from ecr_bench.runner.ablation import Ablation, Place
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import Panel, arm_name, build_panel
from ecr_bench.statistics.roles import PLAIN
from ecr_bench.types import Measure

HEADLINE_SPLIT = "unseen"


def ablate_and_publish(
    ablation: Ablation, out: Path, console: Console, workers: int | None = None, plugins: tuple[str, ...] = ()
) -> AblationResult:
    """Run what is missing, publish the board of all cells, and beside it the table and plots of the axis."""
    name = ablation.experiment.name
    board = run_and_publish(ablation.experiment, out, console, workers, plugins)
    result = build_result(ablation, board, read_records(out / name / "records.parquet"), finished_measures(out / name))
    write_ablation(out / name, result)
    write_page(out / name)
    for line in result.findings:
        console.print(line, markup=False)
    console.print(f"Written to [bold]{out / name}[/]: ablation.md, ablation.png, ablation.html, ablation.json")
    return result


def write_ablation(folder: Path, result: AblationResult) -> None:
    """Write the four files, each atomically."""
    figure = draw(result)
    write_json(folder / "ablation.json", result.model_dump(mode="json"))
    save_png(figure, folder / "ablation.png")
    write_text(folder / "ablation.html", to_html(result, to_svg(figure)))
    write_text(folder / "ablation.md", to_markdown(result))


def build_result(
    ablation: Ablation, board: Board, records: pd.DataFrame, measures: Sequence[Measure] = ()
) -> AblationResult:
    """Points and references as the board has them; paired differences on unseen languages from the records."""
    precision = reference_precision(board)
    rows = {(r.method, r.size, str(r.split), r.task): r for r in board.rows if r.precision == precision}
    unseen = records[(records["group"] == HEADLINE_SPLIT) & (records["precision"] == precision)]
    panel = build_panel(unseen) if len(unseen) else None
    sizes = _equal_sizes(ablation, rows, panel, precision) if panel else []
    return AblationResult(
        name=ablation.experiment.name,
        label=ablation.axis.label,
        log=ablation.axis.log,
        numeric=ablation.axis.numeric,
        precision=precision,
        points=[
            _point(place.series, place.value.label, place.value.at, rows[place.method, place.size, split, task])
            for place in ablation.places
            for split, task in _tables(rows)
        ],
        references=[
            _point(arm_name(*arm), "", None, rows[(*arm, split, task)])
            for arm in ablation.references
            for split, task in _tables(rows)
        ],
        chance={f"{split}/{task}": row.chance for (_, _, split, task), row in rows.items()},
        differences=list(_differences(ablation, panel, precision)) if panel else [],
        equal_sizes=sizes,
        stability=stability_of(ablation.places, measures),
        findings=[found.sentence for found in sizes] + _side(rows, sizes),
        notes=board.notes,
        provenance=board.provenance,
    )


Rows = dict[tuple[str, str, str, str], Row]


def _tables(rows: Rows) -> list[tuple[str, str]]:
    """(split, task) pairs the board has, coarse and fine before all."""
    present = dict.fromkeys((split, task) for _, _, split, task in rows)
    return [pair for pair in present if pair[1] in TASKS]


def _point(series: str, label: str, at: float | None, row: Row) -> Point:
    arm = arm_name(row.method, row.size)
    shared = row.model_dump(include={"split", "task", "mean", "ci", "n_items", "n_seeds", "covers"})
    return Point(series=series, label=label, at=at, arm=arm, **shared)


def _differences(ablation: Ablation, panel: Panel, precision: str) -> Iterator[Difference]:
    for place in ablation.places:
        arm = arm_name(place.method, place.size)
        for reference in (arm_name(*found) for found in ablation.references):
            for task in (task for task in TASKS if task in panel.tasks and arm != reference):
                found = compare(panel, arm, reference, precision, precision, task)
                yield Difference(
                    series=place.series,
                    label=place.value.label,
                    reference=reference,
                    task=task,
                    difference=found.value,
                    ci=(found.low, found.high),
                )


def _equal_sizes(ablation: Ablation, rows: Rows, panel: Panel, precision: str) -> list[EqualSize]:
    """The headline figure, where the axis is the model size: one line of plain models, others to compare."""
    lines: dict[str, list[Place]] = {}
    for place in ablation.places:
        lines.setdefault(place.series, []).append(place)
    if not all(value.size for value in ablation.axis.values):
        return []
    plain = next((places for places in lines.values() if places[0].method == PLAIN), None)
    if plain is None:
        return []
    parameters = {place.size: rows[place.method, place.size, HEADLINE_SPLIT, "all"].parameters or 0 for place in plain}
    ordered = sorted(parameters, key=lambda size: parameters[size])
    curve = [(arm_name(PLAIN, size), parameters[size] / parameters[ordered[0]]) for size in ordered]
    arms = [p for places in lines.values() for p in places if p.size == ordered[0] and p.method != PLAIN]
    return [
        equal_size(panel, precision, arm_name(place.method, place.size), curve, task)
        for place in arms
        for task in TASKS
        if task in panel.tasks
    ]


def _side(rows: Rows, found: list[EqualSize]) -> list[str]:
    """What ECR itself adds to the small model, so that the factor can be judged."""
    plain = min((row.parameters or 0 for row in rows.values() if row.method == PLAIN), default=0)
    arms = {arm_name(row.method, row.size): row for row in rows.values()}
    result = []
    for name in dict.fromkeys(size.arm for size in found):
        total = (arms[name].parameters or 0) + (arms[name].side_parameters or 0)
        result.append(
            f"{name} with its projection and anchors holds {total / plain:.2f} times the plain model's numbers."
        )
    return result
