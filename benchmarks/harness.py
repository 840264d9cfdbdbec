"""What every benchmark shares: a result, interleaved timing, and peak memory of one piece of work."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ecr_bench.memory import peak_memory, reset_peak_memory

START = "spawn"
"""How a process of its own starts. A forked one is quicker and holds pages of libraries only once it touches them, so
that they would count as needed by what is measured: for proof that a benchmark runs."""


@dataclass(frozen=True)
class Options:
    """How large to measure. ``small`` proves in seconds that a benchmark runs; its numbers mean nothing."""

    small: bool = False
    device: str = "cpu"
    data: str | None = None
    """Folder of public test sets, or of runs, for the benchmark that reads them."""

    def pick(self, full: int, small: int) -> int:
        return small if self.small else full


@dataclass(frozen=True)
class Result:
    """One line of the table.

    ``value`` is the median of paired ratios of one run, ``low`` and ``high`` the extremes. ``need`` is what it must
    reach, from below if ``at_least``; None where nothing was promised. ``wrong`` says why the value may not count:
    other scores, a higher inertia. ``beside`` holds plain numbers that explain the value.
    """

    what: str
    peer: str
    value: float
    low: float
    high: float
    need: float | None = None
    at_least: bool = True
    wrong: str = ""
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.need is None:
            return None
        return not self.wrong and (self.value >= self.need if self.at_least else self.value <= self.need)


def compared(what: str, peer: str, ratios: list[float], **options: Any) -> Result:
    """A result from paired ratios."""
    return Result(what, peer, statistics.median(ratios), min(ratios), max(ratios), **options)


def now(device: str = "cpu") -> float:
    """Seconds, when all work given to the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], Any], device: str = "cpu") -> float:
    started = now(device)
    work()
    return now(device) - started


def interleaved(works: dict[str, Callable[[], Any]], repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each piece of work, ``repeats`` times, one after another and in turn the other way round.

    What else the machine does then falls on all of them alike. Each runs once before, unmeasured.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for turn in range(repeats):
        for name in works if turn % 2 == 0 else reversed(works):
            times[name].append(seconds(works[name], device))
    return times


def ratios(times: dict[str, list[float]], above: str, below: str) -> list[float]:
    """``above`` over ``below``, repeat by repeat."""
    return [a / b for a, b in zip(times[above], times[below], strict=True)]


def milliseconds(times: dict[str, list[float]], per: int = 1) -> dict[str, float]:
    """Median of each, in ms, divided by ``per``."""
    return {f"{name} ms": round(statistics.median(found) / per * 1000, 3) for name, found in times.items()}


def memory_of(work: Callable[..., Any], *arguments: Any) -> int:
    """Bytes that ``work(reset, *arguments)`` needs at its peak beyond what it held when it called ``reset``.

    Runs in a process of its own, so that nothing an earlier piece of work has freed is used again.
    """
    context = multiprocessing.get_context(START)
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(queue, work, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with exit code {process.exitcode}")
    return int(queue.get())


def _measure(queue: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    before = 0

    def reset() -> None:
        nonlocal before
        reset_peak_memory()
        before = peak_memory()

    work(reset, *arguments)
    queue.put(peak_memory() - before)
