"""A few worker processes that outlive neither their parent nor its interest in them."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from ecr_bench.runner.worker import Job, Message, Told, work

START = "spawn"
"""How processes begin: a fresh one has no threads and no locks of this one."""
PATIENCE = 5.0
"""Seconds in which a process has ended whose pipe is closed."""


@dataclass(frozen=True)
class Died:
    """The process of a stage ended, as it does when the system runs out of memory."""

    code: int

    @property
    def how(self) -> str:
        """By which signal or with which exit code, in words."""
        if self.code >= 0:
            return f"its process ended with exit code {self.code}"
        name = signal.Signals(-self.code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    stage_id: str = ""
    """Of its job; empty where it has none."""


class Workers:
    """Up to ``size`` workers, each with ``threads`` of torch and the plugins of the run; started when first needed."""

    def __init__(self, size: int, threads: int, plugins: tuple[str, ...]):
        self._size, self._setup = size, (threads, plugins)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """An idle one ends by itself when its pipe closes, and puts away what it has; one at work is killed."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            if not worker.stage_id:
                worker.process.join(PATIENCE)
            _end(worker.process)
        self._workers = []

    @property
    def running(self) -> set[str]:
        """Stages at work."""
        return {worker.stage_id for worker in self._workers if worker.stage_id}

    @property
    def free(self) -> int:
        return self._size - len(self.running)

    def submit(self, job: Job) -> None:
        """Give a free worker the job. It must not be one of ``running``."""
        worker = next((one for one in self._workers if not one.stage_id), None) or self._start()
        worker.stage_id = job.planned.stage_id
        with contextlib.suppress(OSError):  # it died idle: that is found in ``messages``
            worker.connection.send_bytes(pickle.dumps(job))

    def messages(self, timeout: float) -> Iterator[tuple[str, Message | Died]]:
        """What the stages at work have said, after waiting up to ``timeout`` seconds for something."""
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
                yield worker.stage_id, Died(code if code is not None else 1)

    def _start(self) -> _Worker:
        context: Any = multiprocessing.get_context(START)
        ours, theirs = context.Pipe()
        # no daemon: a stage may start processes of its own
        process = context.Process(target=work, args=(theirs, *self._setup), name="ecr-bench worker")
        with _signals_blocked():
            process.start()
        theirs.close()
        self._workers.append(worker := _Worker(process, ours))
        return worker


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
