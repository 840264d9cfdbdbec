"""All benchmarks, each in a process of its own, so that none inherits another's memory, patches or crash."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import Options, Result
from benchmarks.table import Printer, Report, circumstances
from ecr_bench.quiet import quiet_libraries

NAMES = (
    "scoring", "public", "weights", "conditioner", "loop", "pruned", "steps", "pretraining", "losses", "distillation",
    "compiled", "pieces", "threads", "anchors", "seeds", "page", "growth", "corpus", "forecast",
)  # fmt: skip
ON_DATA = ("public", "weights")
"""Benchmarks on public test sets, which ``--data`` names."""


def run_suite(
    only: list[str], resume: bool, small: bool, out: Path, threads: int, device: str, data: str | None = None
) -> int:
    """Measure, print and write; the exit code is 1 when a benchmark failed (a ratio that is not reached is none)."""
    console, report = Console(), Report(out)
    names = only or [name for name in NAMES if name != "forecast" and (name not in ON_DATA or data is not None)]
    how = {"threads": threads, "device": device, "small": small}
    chosen = [name for name in names if not (resume and _done(report, name, how))]
    where = circumstances(**how)
    machine = f"{where['machine']['cpu']}, {where['machine']['cores']} cores, {threads} thread(s)"
    console.print(f"{machine}, load {where['load average'][0]}", highlight=False)
    if not only and data is None:
        console.print(f"{', '.join(ON_DATA)}: not measured, --data is needed", markup=False)
    printer, failed = Printer(console), False
    for name in chosen:
        started = time.perf_counter()
        where = circumstances(**how)
        results, failure = _one(name, Options(small, device, data), threads, printer)
        if failure:
            console.print(f"  {name}: not measured: {failure}", style="red", markup=False)
        failed |= bool(failure)
        report.put(name, results, failure, time.perf_counter() - started, where)
    console.print(f"written: {report.json}, {report.markdown}", markup=False)
    return int(failed)


def _done(report: Report, name: str, how: dict[str, Any]) -> bool:
    part = report.parts.get(name)
    return part is not None and not part["failure"] and all(part["environment"][key] == how[key] for key in how)


def _one(name: str, options: Options, threads: int, printer: Printer) -> tuple[list[Result], str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, options, threads, theirs))
    process.start()
    theirs.close()
    results: list[Result] = []
    failure = "the process died"
    while True:
        try:
            found = ours.recv()
        except EOFError:
            break
        if isinstance(found, Result):
            results.append(found)
            printer.add(found)
        else:
            failure = found
    process.join()
    return results, failure


def _work(name: str, options: Options, threads: int, pipe: Connection) -> None:
    """Send each result, then one line: why it failed, or nothing."""
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(threads)
    quiet_libraries()
    try:
        for result in importlib.import_module(f"benchmarks.{name}").run(options):
            pipe.send(result)
        pipe.send("")
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split()):.300}")
