"""Ctrl-C and SIGTERM: one line, nothing left running, nothing half written, and an exit code that says which."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

KEPT = "finished stages are kept, the same command resumes"


class Stopped(KeyboardInterrupt):
    """SIGTERM: what cleans up after Ctrl-C does so after this as well."""


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """What it was raised by."""
    return signal.SIGTERM if isinstance(error, Stopped) else signal.SIGINT


def exit_code(error: KeyboardInterrupt) -> int:
    """128 + the number of the signal, as shells have it."""
    return 128 + signal_of(error)


def line_of(error: KeyboardInterrupt) -> str:
    """What to tell the user."""
    return f"ecr-bench: {'terminated' if isinstance(error, Stopped) else 'interrupted'}; {str(error) or KEPT}"


@contextlib.contextmanager
def handled(kill: Callable[[], None]) -> Iterator[list[KeyboardInterrupt]]:
    """Inside, the first signal raises KeyboardInterrupt or Stopped in the main thread, which cleans up; another one
    ends the process at once, after ``kill`` has ended the processes it started.

    Gives a list of what was raised. Where it holds something, any error that arrives is that: a library in whose
    callback the signal came hands on an error of its own, as pydantic does.
    """
    asked: list[KeyboardInterrupt] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def stop(number: int, _: Any) -> None:
        error = KeyboardInterrupt() if number == signal.SIGINT else Stopped()
        if not asked:
            asked.append(error)
            raise error
        kill()
        os.write(2, f"{line_of(error)}\n".encode())
        os._exit(exit_code(error))

    show = sys.unraisablehook

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        """A signal that came in a finaliser or another callback, where nothing can be raised: it comes once more."""
        if asked and lost.exc_value is asked[0]:
            threading.Timer(0.01, os.kill, (os.getpid(), signal_of(asked.pop()))).start()
        else:
            show(lost)

    # shells that run a command in the background ask for SIGINT to be ignored: so it is
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: handler for name in names if (handler := signal.getsignal(name)) != signal.SIG_IGN}
    for name in before:
        signal.signal(name, stop)
    sys.unraisablehook = unraisable
    try:
        yield asked
    finally:
        sys.unraisablehook = show
        for name, handler in before.items():
            signal.signal(name, handler)


def kill_all() -> None:
    """Kill every process that ``multiprocessing`` started from this one, for who will not wait."""
    for process in multiprocessing.active_children():
        process.kill()
