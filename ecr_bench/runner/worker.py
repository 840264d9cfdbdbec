"""A worker process: does one job after another, and dies with the process that started it.

Nothing heavy is imported at the top, so that the first thing it does in its life is to tie that to its parent's.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from ecr_bench.parents import killed_with_parent

if TYPE_CHECKING:
    from ecr_bench.runner.store import Store
    from ecr_bench.stages.identity import Identity
    from ecr_bench.stages.stage import Stage


@dataclass(frozen=True)
class Job:
    stage: Stage[Any]
    planned: Identity
    store: Store


@dataclass(frozen=True)
class Told:
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """The stage is in the store."""


@dataclass(frozen=True)
class Busy:
    """Another run is at work on the stage."""


@dataclass(frozen=True)
class Failed:
    """The stage raised an exception."""

    reason: str
    """One line."""
    trace: str = ""
    """Where it was raised; empty where the line says all."""
    memory: bool = False
    """Whether memory was too small, which it may not be for one stage alone."""
    final: bool = False
    """Whether no other stage can be made either."""


Message = Told | Finished | Busy | Failed


def work(connection: Connection, threads: int, plugins: tuple[str, ...]) -> None:
    """Do the jobs that come through ``connection`` until it closes, and send a Message of each."""
    _die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes: it is the parent's to handle
    _unblock()
    os.environ.update(OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            data = connection.recv_bytes()
            connection.send(do(functools.partial(_load, data, plugins), threads, connection.send))


def _load(data: bytes, plugins: tuple[str, ...]) -> Job:
    """A pickled job; it may hold what plugins define."""
    import pickle

    from ecr_bench.plugins import load_plugins

    load_plugins(plugins)
    job: Job = pickle.loads(data)
    return job


def do(load: Callable[[], Job], threads: int, tell: Callable[[Told], None]) -> Message:
    """Do the job that ``load`` gives, with ``threads`` of torch."""
    from ecr_bench.runner.perform import perform
    from ecr_bench.runner.workplace import BusyError

    try:
        job = load()
        if job.planned.device is not None:
            _set_up_torch(threads)

        def report(done: int, total: int) -> None:
            tell(Told(done, total))

        report(0, 0)
        perform(job.stage, job.planned, job.store, report, wait=False)
    except BusyError:
        return Busy()
    except Exception as error:
        return _failed(error)
    return Finished()


def _failed(error: Exception) -> Failed:
    from ecr_bench.errors import UserError, of_the_system
    from ecr_bench.io import DiskError
    from ecr_bench.plugins import blame
    from ecr_bench.runner.perform import ChangedError

    if isinstance(error, UserError):
        return Failed(str(error), final=isinstance(error, DiskError | ChangedError))
    trace = "".join(traceback.format_exception(error))
    if blamed := blame(error):
        return Failed(str(blamed))
    memory = _is_of_memory(error)
    if not memory and (refused := of_the_system(error)):
        return Failed(str(refused))
    reason = UserError(f"{type(error).__name__}: {error}".removesuffix(": "))
    return Failed(str(reason), trace, memory)


def _is_of_memory(error: Exception) -> bool:
    """Which may be there for a stage that is alone."""
    from ecr_bench.errors import OF_MEMORY

    said = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(words in said for words in OF_MEMORY)


def _set_up_torch(threads: int) -> None:
    """For a stage that computes with it: thread count, and no talk of libraries."""
    import torch

    from ecr_bench.quiet import quiet_libraries

    torch.set_num_threads(threads)
    quiet_libraries()


def _die_with_parent() -> None:
    """However the parent ends, this process does too: at once where the system sees to it (Linux), and within moments
    everywhere, by a pipe that closes with the parent. It may be dead already."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    killed_with_parent()
    if os.name == "posix" and os.getppid() != parent.pid:
        os._exit(1)


def _unblock() -> None:
    """The parent blocks these while it starts a worker, so that none arrives before it can be handled."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
