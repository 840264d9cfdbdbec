"""From an experiment to its published board: run, gather, compute, write, print."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from ecr_bench import __version__
from ecr_bench.config import Experiment
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import write_records
from ecr_bench.io import atomic_dir, read_json, write_json
from ecr_bench.report.board import build_board, write_board
from ecr_bench.report.page import FILE, write_page
from ecr_bench.report.schema import Board, read_board
from ecr_bench.report.terminal import print_board
from ecr_bench.runner.collect import (
    collect_cells,
    collect_fingerprints,
    collect_notes,
    collect_records,
    collect_surface,
)
from ecr_bench.runner.device import check_device
from ecr_bench.runner.execute import default_workers, execute
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.provenance import provenance
from ecr_bench.runner.store import Store


def run_and_publish(
    experiment: Experiment, out: Path, console: Console, workers: int | None = None, plugins: tuple[str, ...] = ()
) -> Board:
    """Run what is missing, then write ``out/<name>/`` and print the leaderboard."""
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more")
    check_device(experiment)
    plan, store = make_plan(experiment), Store(out)
    execute(plan.stages, store, console, workers or default_workers(), plugins)
    board = publish(plan, store, out / experiment.name)
    print_board(board, console)
    console.print(
        f"\nWritten to [bold]{out / experiment.name}[/]: {FILE}, board.md, board.json, records.parquet, tensorboard/"
    )
    return board


def publish(plan: Plan, store: Store, folder: Path) -> Board:
    """Write board.json, board.md, report.html, records.parquet, cells.json and tensorboard/ of a finished plan.

    When nothing changed since the last time (same experiment, same stages), the board on disk is returned
    as it is.
    """
    made_from = [__version__, plan.experiment.identity, *sorted(plan.stages)]
    marker = folder / "made_from.json"
    if marker.is_file() and read_json(marker) == made_from:
        return finished_board(folder)
    marker.unlink(missing_ok=True)
    records, cells = collect_records(plan, store), collect_cells(plan, store)
    board = build_board(
        plan.experiment.name,
        records,
        cells,
        collect_surface(plan, store),
        {**provenance(plan.experiment), "fingerprints": collect_fingerprints(plan, store)},
        collect_notes(plan, store),
    )
    write_records(folder / "records.parquet", records)
    write_json(folder / "cells.json", cells)
    _link_tensorboard(plan, store, folder / "tensorboard")
    write_board(folder, board)
    write_page(folder)
    write_json(marker, made_from)  # written last: its presence means the folder is whole
    return board


def _link_tensorboard(plan: Plan, store: Store, folder: Path) -> None:
    """Copy each cell's event files under its readable name."""
    with atomic_dir(folder) as temporary:
        for cell in plan.cells:
            shutil.copytree(store.path(cell.train) / "tensorboard", temporary / cell.label.replace("/", "_"))
        for base in dict.fromkeys(cell.base for cell in plan.cells):
            name = plan.stages[base].label.replace(" ", "-")
            if (events := store.path(base) / "tensorboard").is_dir():  # a pretrained base may be taken as it is
                shutil.copytree(events, temporary / name)


def finished_board(folder: Path) -> Board:
    """The board of a finished run; UserError that says how to make one when there is none."""
    if not (folder / "board.json").is_file():
        raise UserError(f"no board in {folder}; first: ecr-bench run {folder.name} --out {folder.parent}")
    return read_board(folder)
