"""From an experiment to its published run: run, gather, compute, write, draw, print."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ecr_bench import __version__
from ecr_bench.config import Experiment
from ecr_bench.content import content_of
from ecr_bench.errors import UserError
from ecr_bench.forecast.fits import check_fits
from ecr_bench.forecast.outlook import Outlook, known_forecast, workshop_of
from ecr_bench.io import PART, check_folder, fingerprint, remove_parts, write_text
from ecr_bench.report.export import ABLATION_FIGURE, ABLATION_TEXT, to_markdown, write_ablation
from ecr_bench.report.page import FILE as PAGE
from ecr_bench.report.page import TEMPLATES, write_page
from ecr_bench.report.tables import compare_table
from ecr_bench.report.tensorboard import write_tensorboard
from ecr_bench.report.terminal import print_run
from ecr_bench.results.ablation import build_result
from ecr_bench.results.ablation_schema import Layout
from ecr_bench.results.board import build_board
from ecr_bench.results.cells import mixed_note
from ecr_bench.results.claim_schema import ClaimsReport
from ecr_bench.results.claims_file import claims_identity, judge, load_claims, shipped_claims
from ecr_bench.results.collect import (
    collect_arms,
    collect_cells,
    collect_fingerprints,
    collect_measures,
    collect_records,
    collect_surface,
)
from ecr_bench.results.compare import OnBoard, differences, differences_between, unpaired
from ecr_bench.results.eval_folder import EvalFolder
from ecr_bench.results.files import DATA, read_manifest
from ecr_bench.results.notes import collect_notes, divergence_note, edge_note, undecided_note
from ecr_bench.results.timings import Timing
from ecr_bench.run import Run
from ecr_bench.runner.ablation import Ablation
from ecr_bench.runner.engine import Engine
from ecr_bench.runner.execute import execute
from ecr_bench.runner.gaps import Gap, note_of, refuse, without_failed
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.pool import Local, default_workers
from ecr_bench.runner.preflight import checked_plan
from ecr_bench.runner.provenance import provenance
from ecr_bench.runner.remote import Remote
from ecr_bench.runner.store import Store
from ecr_bench.source_code import code_of
from ecr_bench.table import Table
from ecr_bench.verbosity import progress_console

LOCAL = Local()
MARKDOWN = "board.md"
DRAWN_FILES = {
    MARKDOWN: "every table",
    PAGE: "the page: one file, no network",
    ABLATION_TEXT: "tables of an ablation",
    ABLATION_FIGURE: "its figure",
}
"""What is drawn from a run and stands beside its data -> what it is."""
DRAWN = tuple(DRAWN_FILES)


@dataclass(frozen=True)
class Execution:
    """Where and with what an experiment is run: nothing of it can change a result."""

    out: Path
    """Its run goes to ``out/NAME``, its stages to ``out/store``."""
    console: Console
    engine: Engine = LOCAL
    """Where its stages run."""
    max_disk: int | None = None
    """Bytes that the store may hold; before it would hold more, what no run uses is deleted."""
    remote: Remote | None = None
    """Where machines that share no folder share stages."""
    source: str = ""
    """Name or file of the experiment, as it was given, for what is said against its settings."""


def run_and_publish(experiment: Experiment, how: Execution) -> Run:
    """Run what is missing, then write ``out/<name>/`` and print it. IncompleteError after that where cells failed."""
    run, gaps = finish(experiment, how)
    print_run(run, how.console, how.out / experiment.name / PAGE)
    refuse(gaps)
    return run


def finish(experiment: Experiment, how: Execution) -> tuple[Run, list[Gap]]:
    """Run what is missing, then write ``out/<name>/`` without the cells that failed, and say which."""
    folder, console = how.out / experiment.name, progress_console(how.console)
    check_folder(folder, "--out")
    store = Store(how.out, how.remote)
    here = how.engine.here
    plan = checked_plan(experiment, store, console, how.source, here is not None)
    store.use(experiment.name, plan.stages)
    forecast = known_forecast(plan, store, workshop_of(here or default_workers()))
    outlook = Outlook(plan, store, forecast) if here is not None else None  # other machines take other times
    if outlook is not None:
        check_fits(forecast, plan)
        outlook.begin(console)
    left = outlook.left if outlook else None
    peaks = forecast.main_memory
    failures = execute(forecast.costed, store, console, how.engine, most=how.max_disk, left=left, peaks=peaks)
    against = outlook.end(console) if outlook else None
    made, gaps = without_failed(plan, failures)
    run = publish(made, store, folder, gaps)
    if against is not None:
        against.write(folder)
    return run, gaps


def publish(plan: Plan, store: Store, folder: Path, gaps: Sequence[Gap] = ()) -> Run:
    """Write the run of a finished plan to ``folder``, with board.md, page and tensorboard/; it says what ``gaps`` it
    has.

    When nothing changed since the last time, the run on disk is returned as it is. One process at a time.
    """
    with store.publishing(folder.name):
        remove_parts(folder)
        return _publish(plan, store, folder, gaps)


def _publish(plan: Plan, store: Store, folder: Path, gaps: Sequence[Gap]) -> Run:
    made_from = what_a_run_is_made_from(plan, gaps)
    if run := _published(folder, made_from):
        return run
    run = collect_run(plan, store, gaps)
    run = replace(run, timings=_timings_of(folder, run))
    claims = judge(run.name, run.facts, shipped_claims())
    run = replace(run, claims=claims, made_from=made_from, folder=folder)
    write_tensorboard(folder / "tensorboard", plan, store, run)  # the page has its curves
    rewrite(run, folder)
    return run


def what_a_run_is_made_from(plan: Plan, gaps: Sequence[Gap] = ()) -> str:
    """Fingerprint of experiment, stages and claims, and of the code and templates that make a run of them."""
    code = code_of([__name__], {"engine"})  # where its stages ran changes no run
    made: dict[str, Any] = {
        "version": __version__,
        "experiment": plan.experiment.identity,
        "stages": sorted(plan.stages),
        "claims": claims_identity(load_claims(shipped_claims())),
        "code": dict(code.files),
        "packages": dict(code.packages),
        "templates": content_of(TEMPLATES),
        "gaps": [asdict(gap) for gap in gaps],
    }
    return fingerprint(made)


def _published(folder: Path, made_from: str) -> Run | None:
    """The run on disk, if it is whole and was made from the same."""
    try:
        return Run.load(folder) if read_manifest(folder).made_from == made_from else None
    except UserError:  # none yet, of another format, or damaged: it is written anew
        return None


def _timings_of(folder: Path, run: Run) -> Sequence[Timing]:
    """What ``ecr-bench time`` added to the run that was published here before, if the same stages made its cells."""
    try:
        former = Run.load(folder)
    except UserError:
        return ()
    same = (former.provenance.get(key) == run.provenance.get(key) for key in ("identity", "fingerprints"))
    return former.timings if all(same) else ()


def collect_run(plan: Plan, store: Store, gaps: Sequence[Gap] = ()) -> Run:
    """The run of a finished plan, before its claims are judged."""
    records, arms, cells = collect_records(plan, store), collect_arms(plan), collect_cells(plan, store)
    board = build_board(
        plan.experiment.name,
        records,
        arms,
        cells,
        collect_surface(plan, store),
        {
            **provenance(plan.experiment, _pinned(plan)),
            "fingerprints": collect_fingerprints(plan, store),
            **({"failed": [asdict(gap) for gap in gaps]} if gaps else {}),
        },
        [
            *note_of(gaps),
            *collect_notes(plan, store),
            *divergence_note(cells),
            *edge_note(cells),
            *mixed_note(cells),
            *undecided_note(records),
        ],
    )
    return Run(board.name, arms, board, cells, collect_measures(plan, store), own_records=records)


def _pinned(plan: Plan) -> list[str]:
    """Names of the hub that anything of the plan rests on, with the commits that were read."""
    return sorted(set[str]().union(*(stage.identity.pinned for stage in plan.stages.values())))


def draw(run: Run, folder: Path) -> None:
    """Write what is drawn from a run whose data files are in ``folder``, then seal it."""
    write_text(folder / MARKDOWN, to_markdown(run))
    for name in (ABLATION_TEXT, ABLATION_FIGURE):
        (folder / name).unlink(missing_ok=True)
    if run.ablation is not None:
        write_ablation(folder, run.ablation)
    write_page(run, folder)
    run.seal(folder, DRAWN)


def rewrite(run: Run, folder: Path) -> None:
    """Put a run in the place of the one that was published in ``folder``, if any; its curves stay.

    Everything is written and drawn beside it first: who is killed meanwhile leaves the old run as it was.
    """
    remove_parts(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=PART) as place:
        fresh = Path(place)
        run.write_data(fresh)
        draw(run, fresh)
        names = read_manifest(fresh).published
        for name in {*DATA, *DRAWN} - set(names):  # of the run before
            (folder / name).unlink(missing_ok=True)
        for name in reversed(names):  # run.json, which says that all are there, last
            (fresh / name).replace(folder / name)


def judge_again(folder: Path, source: Path | None) -> ClaimsReport:
    """Judge the claims of a file (None: the shipped one) on a finished run; rewrite claims.json, board.md, page."""
    with Store.owning(folder):
        run = Run.load(folder)
        claims = judge(run.name, run.facts, source or shipped_claims())
        own = source is not None  # `run` then publishes anew, with the shipped claims
        rewrite(replace(run, claims=claims, made_from="" if own else run.made_from), folder)
    return claims


def draw_again(folder: Path) -> Path:
    """Draw the page of a finished run again and return its path."""
    with Store.owning(folder):
        run = Run.load(folder)
        path = write_page(run, folder)
        run.seal(folder, DRAWN)
    return path


def ablate_and_publish(ablation: Ablation, how: Execution) -> Run:
    """Run what is missing, publish the board of all cells, and beside it the table and plots of the axis."""
    folder = how.out / ablation.experiment.name
    run, gaps = finish(ablation.experiment, how)
    run = replace(run, ablation=build_result(Layout.planned(ablation), run.board, run.records(), run.measures))
    with Store.owning(folder):
        rewrite(run, folder)
    print_run(run, how.console, folder / PAGE)
    refuse(gaps)
    return run


def compare_references(a: str, b: str) -> Table:
    """``FOLDER:ARM``, ``FOLDER:CELL`` or either with ``:PRECISION``; or the folder of an evaluation: A minus B by task.

    Items that one side has not (``eval --skip-long``) are left out of both; the caption says how many.

    UserError where one is not there or two runs share no item.
    """
    folders, names, precisions = zip(*map(_reference, (a, b)), strict=True)
    runs = {folder: _open(folder) for folder in dict.fromkeys(folders)}
    left, right = (runs[folder] for folder in folders)
    board: list[OnBoard] = []
    picked = [run.pick(name, at) for run, name, at in zip((left, right), names, precisions, strict=True)]
    if folders[0].resolve() == folders[1].resolve():
        lines, alone = differences(left.records(), *picked), (0, 0)
        if isinstance(left, Run):
            board = [left.on_board(picked[0], picked[1], line.group, line.task) for line in lines]
    else:
        both = left.records(), right.records()
        lines, alone = differences_between(*both, *picked), unpaired(*both)
    shown = [
        f"{folder}:{side}" + (f", without {lost} items that the other side has not" if lost else "")
        for folder, side, lost in zip(folders, picked, alone, strict=True)
    ]
    return compare_table(lines, shown[0], shown[1], board)


def _open(folder: Path) -> Run | EvalFolder:
    return EvalFolder(folder) if EvalFolder.is_one(folder) else Run.load(folder)


def _reference(text: str) -> tuple[Path, str, str | None]:
    """Folder, name, precision; UserError shows the form."""
    if EvalFolder.is_one(Path(text)):
        return Path(text), "", None
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise UserError(f"{text!r}: write FOLDER:ARM or FOLDER:ARM:PRECISION, for example runs/quick:ecr-1x:int8")
    return Path(parts[0]), parts[1], parts[2] if len(parts) == 3 else None
