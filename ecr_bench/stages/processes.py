"""A stage whose model is trained on several devices: torchrun, a child of the stage's process, starts one process for
each (``stages.process``). They say how far they are through a socket, and end when it closes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import secrets
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.errors import UserError
from ecr_bench.scratch import scratch
from ecr_bench.stages.work import Report, ResultT, Work

if TYPE_CHECKING:
    from ecr_bench.plugin_files import PluginSource

LOOK = 0.5
"""Seconds between two looks at whether the processes still run."""
PATIENCE = 30.0
"""Seconds in which they have ended after their work."""
LAST_WORDS = 2000
"""Characters of their output that an error quotes."""

_one_of_several = False


@dataclass(frozen=True)
class Call:
    """What each process is to do; pickled for processes of our own alone."""

    work: type[Work[Any, Any, Any]]
    settings: Any
    inputs: Any
    folder: Path
    kept: Path | None


@dataclass(frozen=True)
class Start:
    """How a process begins, before it knows any class of a plugin."""

    plugins: tuple[PluginSource, ...]
    threads: int
    address: Any
    key: bytes
    call: bytes
    """A pickled ``Call``."""


@dataclass(frozen=True)
class Reached:
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    value: Any


@dataclass(frozen=True)
class Raised:
    reason: str
    trace: str
    users: bool
    """Whether it was a UserError."""


class _ThereError(Exception):
    """The traceback of another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def inside() -> bool:
    """Whether this is one of the processes that ``on_devices`` has started."""
    return _one_of_several


def become_one() -> None:
    """Called once by each of them."""
    global _one_of_several
    _one_of_several = True


def on_devices(
    work: type[Work[Any, Any, ResultT]],
    count: int,
    settings: Any,
    inputs: Any,
    folder: Path,
    report: Report,
    kept: Path | None,
) -> ResultT:
    """``work.resume`` in ``count`` processes; the result is that of the first.

    UserError where one of them raised it, RuntimeError with its traceback for anything else.
    """
    import torch

    from ecr_bench.plugin_files import given_files

    with scratch() as place:
        key = secrets.token_bytes(32)
        listener = Listener(None if os.name == "nt" else str(place / "socket"), authkey=key)
        call = pickle.dumps(Call(work, settings, inputs, folder, kept))
        threads = max(1, torch.get_num_threads() // count)
        start = place / "start"
        start.write_bytes(pickle.dumps(Start(given_files(), threads, listener.address, key, call)))
        start.chmod(0o600)
        messages: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=_listen, args=(listener, count, messages), daemon=True).start()
        with (place / "output").open("w+b") as output:
            process = _start(count, start, threads, output, place / "logs")
            try:
                return _follow(process, messages, report, Path(output.name))
            finally:
                _end(process)
                listener.close()


def _start(count: int, start: Path, threads: int, output: Any, logs: Path) -> subprocess.Popen[bytes]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",  # nothing of the working directory is imported
    }
    torchrun += ["--log-dir", str(logs)]
    command = [*torchrun, "-m", "ecr_bench.stages.process", str(start)]
    # a session of their own: Ctrl-C is the run's to handle
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )


def _listen(listener: Listener, count: int, messages: queue.Queue[Any]) -> None:
    """Put what the processes say into ``messages``."""
    connections = []
    for _ in range(count):
        try:
            connections.append(listener.accept())
        except (OSError, EOFError):  # closed: nobody is waited for any more
            break
        threading.Thread(target=_hear, args=(connections[-1], messages), daemon=True).start()


def _hear(connection: Connection, messages: queue.Queue[Any]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(connection.recv())


def _follow(process: subprocess.Popen[bytes], messages: queue.Queue[Any], report: Report, output: Path) -> Any:
    ended = False
    while True:
        try:
            message = messages.get(timeout=LOOK)
        except queue.Empty:
            if ended:
                raise RuntimeError(_last_words(process.returncode, output)) from None
            ended = process.poll() is not None  # what it said last may be on its way
            continue
        if isinstance(message, Reached):
            report(message.done, message.total)
        elif isinstance(message, Result):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            return message.value
        elif message.users:
            raise UserError(message.reason)
        else:
            raise RuntimeError(message.reason) from _ThereError(message.trace)


def _last_words(code: int, output: Path) -> str:
    said = output.read_text(encoding="utf-8", errors="replace").strip()[-LAST_WORDS:]
    how = " (out of memory?)" if "SIGKILL" in said or "exitcode  : -9" in said else ""
    return f"one of the processes on several devices ended{how}; torchrun, exit code {code}: {said}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask torchrun to end its processes, and see that it does."""
    for stop in (process.terminate, process.kill):
        if process.poll() is None:
            stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
