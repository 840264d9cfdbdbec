"""``tensorboard/`` of a run: written as one readable sub-folder per cell, and read back for the curves of the page.

Scalars keep the names training gave them (train/loss, val/loss, train/grad_norm, train/lr; the same for pre-training);
measures over the steps are measures/NAME. A scalar is a curve: what is one number (accuracies, costs, measures of the
finished cell) stands in the HPARAMS tab beside the cell's settings, so that TensorBoard opens on curves. The first seed
of each arm has the pooled states of held-out sentences in the PROJECTOR tab; the configuration is text. Sentences of
the corpus stay in the run's folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import load_file

from ecr_bench.arm import Arm
from ecr_bench.corpora.base import Corpus
from ecr_bench.data.parallel import parallel_rows
from ecr_bench.io import atomic_dir
from ecr_bench.names import file_name
from ecr_bench.results.arms import GROUPS, ordered_precisions
from ecr_bench.results.cells import CellCosts
from ecr_bench.run import Run
from ecr_bench.runner.plan import Cell, Plan
from ecr_bench.runner.store import Store
from ecr_bench.statistics.panel import GRAINS, build_panel
from ecr_bench.types import Measure

if TYPE_CHECKING:  # importing it takes a second or two, which drawing a page need not wait for
    from torch.utils.tensorboard import SummaryWriter

CONFIG = "configuration"
"""The run that holds the experiment as text."""
MOST_POINTS = 600
"""Sentences of a cell in the projector, translations side by side."""
FINAL = ("val_loss", "train_seconds", "parameters", "ms_per_item", "bytes")
"""Numbers of cells.json that stand in the HPARAMS tab."""

TAGS = ("train/loss", "val/loss", "train/grad_norm")
"""Curves that the page draws."""
POINTS = 120
"""Points kept per curve of the page."""

Metrics = dict[str, float]
Points = tuple[tuple[float, float], ...]


def write_tensorboard(folder: Path, plan: Plan, store: Store, run: Run) -> None:
    """Copy the event files of all cells and bases to ``folder`` and add what compares them, atomically."""
    from torch.utils.tensorboard import SummaryWriter

    metrics = cell_metrics(run.records(), run.cells, run.measures)
    settings = cell_settings(plan.cells)
    with atomic_dir(folder) as temporary:
        for base in dict.fromkeys(cell.base for cell in plan.cells):
            name = plan.stages[base].label.replace(" ", "-")
            if (temporary / name).exists():  # the same size pre-trained otherwise
                name = f"{name}-{plan.stages[base].identity.key[:8]}"
            if (events := store.path(base) / "tensorboard").is_dir():  # a pretrained base may be taken as it is
                copy_curves(events, temporary / name)
        with SummaryWriter(str(temporary / CONFIG)) as writer:
            text = yaml.safe_dump(plan.experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            writer.add_text("configuration", "    " + text.replace("\n", "\n    "))
        first = _first_seeds(plan.cells)
        found = {name for numbers in metrics.values() for name in numbers}
        columns = ordered_columns(found, ordered_precisions(cell.precision for cell in run.cells))
        for cell in plan.cells:
            events = temporary / file_name(cell.label)
            logged = store.path(cell.train) / "tensorboard"
            if logged.is_dir():  # not of what rests on a model that diverged
                copy_curves(logged, events)
            with SummaryWriter(str(events)) as writer:
                add_cell(writer, settings[cell.label], metrics.get(cell.label, {}), columns)
                add_measures(writer, [m for m in run.measures if m.cell == cell.label])
                if cell in first:
                    _project(writer, plan, store, cell)


def cell_settings(cells: Iterable[Cell]) -> dict[str, dict[str, str]]:
    """Cell -> its settings, with the same keys for all: method, size, seed and what any entry of ``cells`` changed."""
    cells = list(cells)
    settings = {cell.label: dict(cell.arm.settings) for cell in cells}
    changed = sorted({key for found in settings.values() for key in found})
    return {
        cell.label: {
            "method": cell.arm.name,
            "size": cell.arm.size,
            "seed": str(cell.seed),
            **{key: str(settings[cell.label].get(key, "as the experiment")) for key in changed},
        }
        for cell in cells
    }


def cell_metrics(records: pd.DataFrame, cells: Sequence[CellCosts], measures: Sequence[Measure]) -> dict[str, Metrics]:
    """Cell -> accuracies by group, task and precision, final costs, and measures of the finished cell."""
    result: dict[str, Metrics] = {}
    labels = {(str(c.arm), c.precision, c.seed): c.cell for c in cells}
    for group in GROUPS:
        part = records[records["group"] == group]
        if part.empty:
            continue
        panel = build_panel(part)
        for row, respondent in enumerate(panel.respondents):
            found = result.setdefault(labels[respondent.arm, respondent.precision, respondent.seed], {})
            for task in ("all", *(grain for grain in GRAINS if grain in panel.tasks)):
                found[_accuracy(group, task, respondent.precision)] = panel.mean(row, task)
    for cell in reversed(cells):  # the first precision of a cell is written last, so it stays
        for name in FINAL:
            if (value := getattr(cell, name)) is not None:
                result.setdefault(cell.cell, {})[f"final/{name}"] = float(value)
    for m in measures:
        if m.step is None and not m.lang and m.value is not None:
            result.setdefault(m.cell, {})[f"final/{m.metric}"] = m.value
    return result


def _accuracy(group: str, task: str, precision: str) -> str:
    return f"accuracy/{group}_{task}_{precision}"


def ordered_columns(names: set[str], precisions: Sequence[str]) -> dict[str, str]:
    """Name -> its column in the HPARAMS tab. The tab sorts columns by name and shows the first few only, so they are
    numbered: accuracy on unseen languages, all tasks, in full precision comes first."""
    wanted = [_accuracy(*key) for key in product(GROUPS, ("all", *GRAINS), precisions)]
    ordered = [*(name for name in wanted if name in names), *sorted(names - set(wanted))]
    return {name: f"result {number:03} {name}" for number, name in enumerate(ordered, 1)}


def add_cell(writer: SummaryWriter, settings: dict[str, str], numbers: Metrics, columns: dict[str, str]) -> None:
    """One row of the HPARAMS tab: settings, then what came out. ``columns``: those of all cells, so that the tab has
    one set. Its metrics are the last points of the loss curves: a metric has to be a scalar."""
    from torch.utils.tensorboard.summary import hparams

    losses = dict.fromkeys(TAGS[:2], 0.0)
    given: dict[str, str | float] = {f"arm/{key}": value for key, value in settings.items()}
    experiment, _, _ = hparams(given | dict.fromkeys(columns.values(), 0.0), losses)
    _, start, end = hparams(given | {columns[name]: numbers[name] for name in columns if name in numbers}, losses)
    for summary in (experiment, start, end):
        writer._get_file_writer().add_summary(summary)  # the public call writes to a run of its own


def copy_curves(source: Path, target: Path) -> None:
    """Copy event files without what Lightning adds to every point, the number of the epoch."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from torch.utils.tensorboard import SummaryWriter

    target.mkdir(parents=True)
    with SummaryWriter(str(target)) as writer:
        for path in sorted(source.glob("events.*")):
            for event in LegacyEventFileLoader(str(path)).Load():
                kept = [value for value in event.summary.value if value.tag != "epoch"]
                if kept:
                    del event.summary.value[:]
                    event.summary.value.extend(kept)
                    writer._get_file_writer().event_writer.add_event(event)  # as it is, with its own time


def add_measures(writer: SummaryWriter, measures: Sequence[Measure]) -> None:
    """Measures that were taken at two or more snapshots, as curves."""
    curves: dict[str, list[Measure]] = {}
    for m in measures:
        if m.step is not None and not m.lang and m.value is not None:
            curves.setdefault(m.metric, []).append(m)
    for metric, points in curves.items():
        for m in points if len(points) > 1 else ():
            writer.add_scalar(f"measures/{metric}", m.value, m.step)


def _first_seeds(cells: Iterable[Cell]) -> list[Cell]:
    first: dict[Arm, Cell] = {}
    for cell in cells:
        first.setdefault(cell.arm, cell)
    return list(first.values())


def _project(writer: SummaryWriter, plan: Plan, store: Store, cell: Cell) -> None:
    """The last snapshot of a cell with language, label and text of each sentence; nothing where none was taken."""
    snapshots = store.path(cell.train) / "snapshots.safetensors"
    if not snapshots.is_file():
        return
    states = load_file(snapshots)
    stage = plan.stages[cell.train]
    last = max(states, default="")
    if last and np.isfinite(states[last]).all():
        rows = _held_out(store.path(stage.inputs["corpus"]) / "corpus", stage.settings.pooling.per_language)
        add_projection(writer, states[last].astype(np.float32), rows, int(last.removeprefix("step-")))


@cache
def _held_out(corpus: Path, per_language: int) -> pd.DataFrame:
    return parallel_rows(Corpus.load(corpus).dataset.to_pandas(), per_language)


def add_projection(writer: SummaryWriter, states: np.ndarray, rows: pd.DataFrame, step: int) -> None:
    """Write (N, d) states and their ``parallel_rows`` for the projector: at most MOST_POINTS, whole pairs, spread
    over all languages."""
    pairs = len(rows) // 2
    kept = np.unique(np.linspace(0, pairs - 1, min(pairs, MOST_POINTS // 2)).astype(int))
    index = np.stack([2 * kept, 2 * kept + 1], axis=1).ravel()
    columns = ["lang", "label", "pair", "text"]
    labels = [[" ".join(str(value).split()) for value in row] for row in rows.iloc[index][columns].to_numpy()]
    writer.add_embedding(states[index], labels, metadata_header=columns, global_step=step, tag="pooled")


def read_curves(folder: Path) -> dict[str, dict[str, Points]]:
    """``{cell: {tag: ((step, value), ...)}}`` for the sub-folders of ``folder``; values that are not finite are left
    out, and a run without event files is simply absent."""
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        if curves := _read(path):
            found[path.name] = curves
    return found


def _read(folder: Path) -> dict[str, Points]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    result = {}
    for tag in (t for t in TAGS if t in events.Tags()["scalars"]):
        points = [(float(e.step), float(e.value)) for e in events.Scalars(tag) if math.isfinite(e.value)]
        if points:
            result[tag] = thin(points, POINTS)
    return result


def thin(points: list[tuple[float, float]], limit: int) -> Points:
    """At most ``limit`` points. Each bucket of neighbours gives the one farthest from the bucket's mean, so that
    spikes survive; the first and the last point stay."""
    if len(points) <= limit:
        return tuple(points)
    inner = points[1:-1]
    edges = [round(i * len(inner) / (limit - 2)) for i in range(limit - 1)]
    kept = []
    for start, stop in pairwise(edges):
        bucket = inner[start:stop]
        mean = sum(value for _, value in bucket) / len(bucket)
        kept.append(max(bucket, key=lambda point: abs(point[1] - mean)))
    return (points[0], *kept, points[-1])
