"""From an experiment to its published board: run, gather, compute, write, print."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ecr_bench import __version__
from ecr_bench.config import Experiment
from ecr_bench.device import check_device
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import write_records
from ecr_bench.io import read_json, write_json
from ecr_bench.metrics.files import FILE as MEASURES
from ecr_bench.metrics.files import finished_measures, write_measures
from ecr_bench.report.board import build_board, write_board
from ecr_bench.report.claims import (
    claims_identity,
    judge,
    judge_folder,
    load_claims,
    read_claims,
    shipped_claims,
    write_claims,
)
from ecr_bench.report.page import FILE, write_page
from ecr_bench.report.schema import Board, read_board
from ecr_bench.report.tensorboard import write_tensorboard
from ecr_bench.report.terminal import print_board, print_claims, print_measures
from ecr_bench.runner.collect import (
    collect_cells,
    collect_fingerprints,
    collect_measures,
    collect_notes,
    collect_records,
    collect_surface,
)
from ecr_bench.runner.execute import default_workers, execute
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.provenance import provenance
from ecr_bench.runner.store import Store
from ecr_bench.statistics.claim_schema import ClaimsReport


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
    folder = out / experiment.name
    if claims := read_claims(folder):
        print_claims(claims, console)
    print_board(board, console)
    print_measures(finished_measures(folder), console)
    console.print(
        f"\nWritten to [bold]{folder}[/]: {FILE}, board.md, board.json, claims.json, measures.json, records.parquet, "
        "tensorboard/"
    )
    return board


def publish(plan: Plan, store: Store, folder: Path) -> Board:
    """Write board.json, board.md, claims.json, measures.json, report.html, records.parquet, cells.json and tensorboard/
    of a finished plan.

    When nothing changed since the last time (same experiment, same stages, same claims), the board on disk is
    returned as it is.
    """
    claims_file = shipped_claims()
    made_from = [__version__, plan.experiment.identity, claims_identity(load_claims(claims_file)), *sorted(plan.stages)]
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
    measures = collect_measures(plan, store)
    write_measures(folder / MEASURES, measures)
    write_tensorboard(folder / "tensorboard", plan, store, records, cells, measures)
    experiment = plan.experiment.model_dump(mode="json")
    claims = judge(board.name, records, cells, measures, experiment, claims_file)
    write_claims(folder, claims)
    write_board(folder, board, measures, claims)
    write_page(folder)
    write_json(marker, made_from)  # written last: its presence means the folder is whole
    return board


def judge_again(folder: Path, source: Path | None) -> ClaimsReport:
    """Judge the claims of a file (None: the shipped one) on a finished run; rewrite claims.json, board.md, page."""
    board = finished_board(folder)
    claims = judge_folder(folder, board, source or shipped_claims())
    write_claims(folder, claims)
    write_board(folder, board, finished_measures(folder), claims)
    write_page(folder)
    return claims


def finished_board(folder: Path) -> Board:
    """The board of a finished run; UserError that says how to make one when there is none."""
    if not (folder / "board.json").is_file():
        raise UserError(f"no board in {folder}; first: ecr-bench run {folder.name} --out {folder.parent}")
    return read_board(folder)
