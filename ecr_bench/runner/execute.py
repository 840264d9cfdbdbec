"""Run the stages of a plan on a few worker processes, with progress a person can read.

Small models gain little from several threads, so each worker gets ``cores / workers`` of them and
stages that do not depend on each other run side by side. A stage that is done is never run again; an
interrupted run loses only the stages that were running.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ecr_bench.divergence import DivergedError
from ecr_bench.errors import UserError
from ecr_bench.runner.perform import perform
from ecr_bench.runner.store import Store
from ecr_bench.stages.identity import Identity
from ecr_bench.stages.stage import Stage
from ecr_bench.teachers.base import usable_cores

_progress_queue: Any = None


def default_workers() -> int:
    """One worker per core up to eight; one where a GPU does the work."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(8, usable_cores()))


def critical_path(stages: dict[str, Stage[Any]]) -> dict[str, float]:
    """For each stage, its cost plus that of the dearest chain of stages that wait for it; endless for urgent ones."""
    waiting: dict[str, list[str]] = {stage_id: [] for stage_id in stages}
    for stage in stages.values():
        for needed in stage.inputs.values():
            waiting[needed].append(stage.id)
    length: dict[str, float] = {}

    def visit(stage_id: str) -> float:
        if stage_id not in length:
            own = math.inf if stages[stage_id].work.urgent else stages[stage_id].cost
            length[stage_id] = own + max(map(visit, waiting[stage_id]), default=0.0)
        return length[stage_id]

    for stage_id in stages:
        visit(stage_id)
    return length


def _start_worker(threads: int, progress_queue: Any, plugins: tuple[str, ...]) -> None:
    """Runs first in each worker: thread count, memory, quiet libraries, plugins; Ctrl-C is the parent's to handle."""
    global _progress_queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave through the `finally` that removes half a stage
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    os.environ.update(OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false")
    import torch

    from ecr_bench.plugins import load_plugins
    from ecr_bench.quiet import quiet_libraries

    torch.set_num_threads(threads)
    quiet_libraries()
    load_plugins(plugins)
    _progress_queue = progress_queue


def _leave_with(parent: int) -> None:
    """End this worker when the run is killed, so that no stage goes on unseen."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(stage: Stage[Any], store: Store, planned: Identity) -> None:
    """Run ``stage`` in a worker; UserError when its identity here is not the ``planned`` one."""

    def report(done: int, total: int) -> None:
        _progress_queue.put((planned.stage_id, done, total))

    report(0, 0)
    perform(stage, planned, store, report)


class _Display:
    """One line for the whole run and one for each running stage; plain lines when not on a terminal."""

    def __init__(self, console: Console, stages: dict[str, Stage[Any]], cached: int):
        self.console, self.stages, self.live = console, stages, console.is_terminal
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(), console=console, disable=not self.live,
        )  # fmt: skip
        self.lines: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.finished, self.total = cached, len(stages)
        label = f"{self.total} stages" + (f", {cached} cached" if cached else "")
        self.overall = self.progress.add_task(label, total=self.total, completed=cached, count=f"{cached}/{self.total}")

    def update(self, stage_id: str, done: int, total: int) -> None:
        if stage_id not in self.lines:
            self.started[stage_id] = time.perf_counter()
            self.lines[stage_id] = self.progress.add_task(self.stages[stage_id].label, total=None, count="")
        if total:
            self.progress.update(self.lines[stage_id], completed=done, total=total, count=f"{done}/{total}")

    def finish(self, stage_id: str) -> None:
        self.finished += 1
        count = f"{self.finished}/{self.total}"
        seconds = time.perf_counter() - self.started.get(stage_id, time.perf_counter())
        if stage_id in self.lines:
            self.progress.remove_task(self.lines.pop(stage_id))
        self.progress.update(self.overall, completed=self.finished, count=count)
        self.console.print(f"[dim]{count:>7}[/] {self.stages[stage_id].label} [dim]{seconds:.0f} s[/]")


def execute(
    stages: dict[str, Stage[Any]], store: Store, console: Console, workers: int, plugins: tuple[str, ...] = ()
) -> None:
    """Run what is not done yet. UserError of a stage ends the run; finished stages stay."""
    missing = {stage_id: stage for stage_id, stage in stages.items() if not store.done(stage_id)}
    console.print(f"{len(stages)} stages: {len(stages) - len(missing)} cached, {len(missing)} to run")
    if cached := Counter(stage.kind for stage_id, stage in stages.items() if stage_id not in missing):
        console.print("[dim]cached: " + ", ".join(f"{kind} ({count})" for kind, count in cached.items()) + "[/]")
    if not missing:
        return
    order = critical_path(stages)
    context = multiprocessing.get_context("spawn")
    threads = max(1, usable_cores() // workers)
    with context.Manager() as manager:
        progress_queue = manager.Queue()
        display = _Display(console, stages, len(stages) - len(missing))
        setup = (threads, progress_queue, plugins)
        pool = ProcessPoolExecutor(min(workers, len(missing)), context, _start_worker, setup)
        try:
            with display.progress:
                _drain(missing, order, store, pool, progress_queue, display, workers)
        except BaseException as error:
            # the running stages are given up; their folders never took their names
            for process in multiprocessing.active_children():
                if process.name.startswith("SpawnProcess"):
                    process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a worker process died (out of memory?); finished stages are kept: run the same command "
                    "again, with --workers 1 or a smaller batch_size"
                ) from error
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _drain(
    missing: dict[str, Stage[Any]], order: dict[str, float], store: Store, pool: ProcessPoolExecutor,
    progress_queue: Any, display: _Display, workers: int,
) -> None:  # fmt: skip
    """Keep ``workers`` stages running, the one with the longest way ahead first."""
    waiting, running = dict(missing), dict[Future[None], str]()
    while waiting or running:
        ready = [s for s in waiting.values() if all(n not in missing for n in s.inputs.values())]
        for stage in sorted(ready, key=lambda s: -order[s.id])[: workers - len(running)]:
            running[pool.submit(_work, stage, store, stage.identity)] = stage.id
            del waiting[stage.id]
        finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        _show(progress_queue, display)
        for future in finished:
            stage_id = running.pop(future)
            future.result()
            work = missing.pop(stage_id).work
            display.finish(stage_id)
            with contextlib.suppress(DivergedError):  # it was not run, so there is nothing to say of it
                if summary := work.summary(store.read(work, stage_id)):
                    display.console.print(f"        [dim]{summary}[/]")


def _show(progress_queue: Any, display: _Display) -> None:
    while True:
        try:
            display.update(*progress_queue.get_nowait())
        except queue.Empty:
            return
