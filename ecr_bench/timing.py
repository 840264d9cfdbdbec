"""``ecr-bench time``: the arms of a published run timed in turn, and its claims about time judged by it."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ecr_bench import __version__
from ecr_bench.config import Experiment
from ecr_bench.device import check_device, device
from ecr_bench.errors import UserError
from ecr_bench.formats import duration
from ecr_bench.io import check_folder
from ecr_bench.items.files import read_items
from ecr_bench.publish import rewrite
from ecr_bench.quiet import quiet_libraries
from ecr_bench.report.measure_tables import timing_table
from ecr_bench.report.page import FILE as PAGE
from ecr_bench.report.terminal import print_claims
from ecr_bench.results.claim_schema import ClaimSet
from ecr_bench.results.claims_file import judge_claims
from ecr_bench.results.files import read_manifest
from ecr_bench.results.timings import FEWEST_ROUNDS, SCORING, TIMES, TRAINING, Timing
from ecr_bench.run import Run
from ecr_bench.runner import timing as turns
from ecr_bench.runner.execute import execute
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.provenance import cpu, environment, gpu
from ecr_bench.runner.store import Store
from ecr_bench.runner.timing import Subject, Turn
from ecr_bench.table import print_table
from ecr_bench.teachers.base import usable_cores
from ecr_bench.verbosity import progress_console


@dataclass(frozen=True)
class Asked:
    """What ``ecr-bench time`` was asked for."""

    experiment: Experiment
    out: Path
    rounds: int
    steps: int
    to: Path | None = None
    """The published run; None: the experiment's own in ``out``."""
    arms: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    """Empty: all."""
    plugins: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.to or self.out / self.experiment.name


def time_and_publish(asked: Asked, console: Console) -> Run:
    """Time the arms, then write ``timings.json``, the claims and what is drawn from them into the published run.

    UserError before anything is run or timed for what cannot be. Nothing is written before the last round is over.
    """
    if asked.rounds < FEWEST_ROUNDS:
        raise UserError(f"--rounds {asked.rounds}: must be {FEWEST_ROUNDS} or more, fewer are not compared")
    check_device(asked.experiment)
    run, plan, store = _published(asked), make_plan(asked.experiment), Store(asked.out)
    seal = read_manifest(asked.folder).seal
    subjects = turns.subjects_of(plan, asked.arms)
    turns.check(subjects, asked.steps, asked.precisions)
    if unknown := [str(subject.arm) for subject in subjects if str(subject.arm) not in run.arms]:
        raise UserError(f"{asked.folder}: has no {', '.join(unknown)}; its arms are {', '.join(run.arms)}")
    quiet_libraries()
    progress = progress_console(console)
    execute(turns.needed(plan, subjects), store, progress, Local(plugins=asked.plugins), whole=True).raise_first()
    _check_items(run, subjects[0], store, asked.folder)
    order = turns.first_round(subjects, asked.precisions, store)
    if not order:
        raise UserError(f"{asked.experiment.name}: no two of its arms can be compared: too many diverged")
    _announce(asked, order, store, progress)
    found = _measure(asked, order, store, progress)
    return _publish(run, found, asked.folder, seal, console)


def _published(asked: Asked) -> Run:
    """The run that is to have the timings, whose claims can be judged again and which can be written to."""
    folder, experiment = asked.folder, asked.experiment
    run = Run.load(folder)
    if run.provenance.get("identity") != experiment.identity:
        raise UserError(
            f"{folder}: is a run of another experiment or of other settings than {experiment.name}; give --set as it "
            "was given to run"
        )
    run.records()
    check_folder(folder, "--to" if asked.to else "--out")
    return run


def _check_items(run: Run, subject: Subject, store: Store, folder: Path) -> None:
    """The run answered the items that are timed here. UserError where it did not: other data lie behind it."""
    here = {item.item_id for item in read_items(store.path(subject.cell.items) / "test")}
    there = set(run.records()["item_id"])
    if here != there:
        raise UserError(
            f"{folder}: answers {len(there - here)} items that are not in {store.root} and lacks {len(here - there)} "
            "that are: it was made from other data"
        )


def _announce(asked: Asked, order: Sequence[Turn], store: Store, console: Console) -> None:
    once = sum(turns.seconds_of(turn, asked.steps, store) for turn in order)
    first = sum(turns.seconds_of(turn, asked.steps, store) for turn in turns.to_warm_up(order))
    arms, cores = len({turn.subject.arm for turn in order}), usable_cores()
    about = duration(first + asked.rounds * once)
    lines = [
        f"{asked.rounds} rounds of {len(order)} turns ({arms} arms): about {about}, by what the stages took; a turn is "
        f"{asked.steps} steps of fine-tuning or all test items, in this one process"
    ]
    if (load := psutil.getloadavg()[0]) > cores / 4:
        lines.append(f"other work keeps {load:.1f} of {cores} cores busy: rounds will differ, and intervals be wide")
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _measure(asked: Asked, order: Sequence[Turn], store: Store, console: Console) -> list[Timing]:
    """The rounds, one after the other in this process."""
    import torch

    torch.set_num_threads(usable_cores())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    values: dict[Turn, list[float]] = {turn: [] for turn in order}
    warm = turns.to_warm_up(order)
    with turns.stoppable(), Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("warming up", total=len(warm) + asked.rounds * len(order))

        def take(turn: Turn, title: str) -> float | None:
            progress.update(bar, description=escape(f"{title}: {turn}"))
            value = turns.take(turn, asked.steps, store, lambda done, total: None)
            progress.advance(bar)
            return value

        for turn in warm:
            take(turn, "warming up")
        for number in range(asked.rounds):
            for turn in turns.in_order(order, number):
                if (value := take(turn, f"round {number + 1} of {asked.rounds}")) is not None:
                    values[turn].append(value)
            if not console.is_terminal:
                console.print(f"round {number + 1} of {asked.rounds}", highlight=False)
    counts = {turn: turns.count_of(turn, asked.steps, store) for turn in order}
    session = _session()
    return [session(turn, tuple(found), counts[turn]) for turn, found in values.items() if len(found) == asked.rounds]


def _session() -> Callable[[Turn, tuple[float, ...], int], Timing]:
    """Makes the rows of this sitting."""
    import torch

    made = environment()
    device_name = gpu() if device() == "cuda" else f"{cpu()}, {torch.get_num_threads()} threads"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def row(turn: Turn, rounds: tuple[float, ...], count: int) -> Timing:
        cell = turn.subject.cell
        return Timing(
            arm=cell.arm, seed=cell.seed, metric=SCORING if turn.precision else TRAINING,
            precision=turn.precision or turn.subject.precisions(())[0], rounds=rounds, count=count, session=date,
            interleaved=True, host=platform.node(), device=str(device_name), code=made["commit"] or __version__,
        )  # fmt: skip

    return row


def _publish(run: Run, timings: Sequence[Timing], folder: Path, seal: str, console: Console) -> Run:
    """Judge the run's claims again, those about time by ``timings``, and write both.

    UserError where the run of this ``seal`` has made room for another meanwhile.
    """
    former = run.timings
    run = replace(run, timings=timings)
    if run.claims:
        claims = ClaimSet(claims=tuple(result.claim for result in run.claims.results))
        run = replace(run, claims=judge_claims(run.name, run.facts, claims, run.claims.source))
    with Store.owning(folder):
        if read_manifest(folder).seal != seal:
            raise UserError(f"{folder}: was published again while its arms were timed; time them again")
        rewrite(run, folder)
    print_table(timing_table(run.timings, run.cells), console)
    if run.claims:
        about_time = tuple(result for result in run.claims.results if result.claim.metric in TIMES)
        print_claims(run.claims.model_copy(update={"results": about_time}), console)
    if former:
        console.print(f"These take the place of the timings of {escape(former[0].session)}.", highlight=False)
    console.print(f"Page: [bold]{escape(str(folder / PAGE))}[/]", highlight=False)
    return run
