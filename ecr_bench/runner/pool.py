"""A few worker processes that outlive neither their parent nor its interest in them."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from ecr_bench.runner.engine import Died, Resources, check_gpus, resources_of
from ecr_bench.runner.store import Store
from ecr_bench.runner.worker import Job, Message, Told, work
from ecr_bench.stages.stage import Stage
from ecr_bench.teachers.base import usable_cores

START = "spawn"
"""How processes begin: a fresh one has no threads and no locks of this one."""
PATIENCE = 5.0
"""Seconds in which a process has ended whose pipe is closed."""
DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    devices: tuple[str, ...]
    """The GPUs it sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    stage_id: str = ""
    """Of its job; empty where it has none."""


@dataclass(frozen=True)
class Local:
    """This machine."""

    workers: int | None = None
    """Stages at most side by side; None: ``default_workers``."""
    plugins: tuple[str, ...] = ()

    @property
    def here(self) -> int:
        return self.workers or default_workers()

    @contextlib.contextmanager
    def open(self, stages: Collection[Stage[Any]], store: Store) -> Iterator[Processes]:
        """``engine.Engine.open``: small models gain little from several threads, so each worker gets a share of the
        cores, and of the GPUs where there are several."""
        workers = self.here
        devices = visible_gpus() if any(resources_of(stage).gpus for stage in stages) else ()
        check_gpus(stages, len(devices), "this machine")
        with Processes(min(workers, len(stages)), threads_of(workers), self.plugins, devices) as processes:
            yield processes


def default_workers() -> int:
    """One worker a GPU where there are any, else one per core up to eight."""
    return len(visible_gpus()) or max(1, min(8, usable_cores()))


def threads_of(workers: int) -> int:
    """Of torch in each of so many workers."""
    return max(1, usable_cores() // workers)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get(DEVICES, "").split(",") if name.strip()]
    return tuple(named[:count] if len(named) >= count else map(str, range(count)))


class Processes:
    """Up to ``size`` processes, each with ``threads`` of torch and the plugins of the run; started when first needed.

    Where there are ``devices``, a process sees one of them, which it shares where there are more processes than GPUs; a
    stage that takes several has them for itself.
    """

    def __init__(self, size: int, threads: int, plugins: tuple[str, ...], devices: Sequence[str] = ()):
        self._size, self._setup = size, (threads, plugins)
        self._devices = tuple(devices)
        self._share = math.ceil(size / len(devices)) if devices else 0
        """Processes at most on one GPU."""
        self._workers: list[_Worker] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        """An idle one ends by itself when its pipe closes, and puts away what it has; one at work is killed."""
        for worker in self._workers:
            worker.connection.close()
        for worker in list(self._workers):
            self._dismiss(worker)

    @property
    def running(self) -> set[str]:
        return {worker.stage_id for worker in self._workers if worker.stage_id}

    def fits(self, resources: Resources) -> bool:
        return len(self.running) < self._size and self._place(resources) is not None

    def _place(self, resources: Resources) -> tuple[str, ...] | None:
        """GPUs for a stage; None where it has to wait for one. What takes none runs on one all the same."""
        if not self._devices:
            return ()
        used: Counter[str] = Counter()
        for worker in self._workers:
            if worker.stage_id:
                used.update(dict.fromkeys(worker.devices, 1 if len(worker.devices) == 1 else self._share))
        if resources.gpus > 1:
            unused = tuple(device for device in self._devices if not used[device])
            return unused[: resources.gpus] if len(unused) >= resources.gpus else None
        least = min(self._devices, key=lambda device: used[device])
        return (least,) if used[least] < self._share else None

    def submit(self, job: Job, resources: Resources) -> None:
        place = self._place(resources)
        assert place is not None
        worker = self._idle(place) or self._start(place)
        worker.stage_id = job.planned.stage_id
        with contextlib.suppress(OSError):  # it died idle: that is found in ``messages``
            worker.connection.send_bytes(pickle.dumps(job))

    def _idle(self, place: tuple[str, ...]) -> _Worker | None:
        """One without a job on these GPUs. Another one that keeps some of several that are needed ends."""
        found = None
        for worker in [worker for worker in self._workers if not worker.stage_id]:
            if worker.devices == place:
                found = found or worker
            elif set(worker.devices) & set(place):
                self._dismiss(worker)
        return found

    def _dismiss(self, worker: _Worker) -> None:
        worker.connection.close()
        if not worker.stage_id:
            worker.process.join(PATIENCE)
        _end(worker.process)
        self._workers.remove(worker)

    def cancel(self, stage_id: str) -> None:
        for worker in [worker for worker in self._workers if stage_id and worker.stage_id == stage_id]:
            self._dismiss(worker)

    def messages(self, timeout: float) -> Iterator[tuple[str, Message | Died]]:
        busy = {worker.connection: worker for worker in self._workers if worker.stage_id}
        for ready in wait(list(busy), timeout):
            worker = busy[cast("Connection", ready)]
            try:
                while worker.stage_id and worker.connection.poll():
                    message: Message = worker.connection.recv()
                    stage_id = worker.stage_id
                    if not isinstance(message, Told):
                        worker.stage_id = ""
                    yield stage_id, message
            except (EOFError, OSError, pickle.UnpicklingError):
                self._workers.remove(worker)
                worker.process.join(PATIENCE)
                _end(worker.process)
                code = worker.process.exitcode
                yield worker.stage_id, Died(ended_by(code if code is not None else 1))

    def _start(self, devices: tuple[str, ...]) -> _Worker:
        context: Any = multiprocessing.get_context(START)
        ours, theirs = context.Pipe()
        # no daemon: a stage may start processes of its own
        process = context.Process(target=work, args=(theirs, *self._setup), name="ecr-bench worker")
        with _signals_blocked(), _sees(devices):
            process.start()
        theirs.close()
        self._workers.append(worker := _Worker(process, ours, devices))
        return worker


def ended_by(code: int) -> str:
    """By which signal or with which exit code a process ended, in words."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


@contextlib.contextmanager
def _sees(devices: tuple[str, ...]) -> Iterator[None]:
    """A process that is started inside sees these GPUs alone; all of them where none are named."""
    before = os.environ.get(DEVICES)
    if devices:
        os.environ[DEVICES] = ",".join(devices)
    try:
        yield
    finally:
        if before is not None:
            os.environ[DEVICES] = before
        elif devices:
            del os.environ[DEVICES]


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.kill()
        process.join()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Ctrl-C waits, here and in the process that is started inside, until that can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
