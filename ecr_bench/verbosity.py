"""How much a command says: ``-q`` its results alone, ``-v`` what libraries say as well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from ecr_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

VARIABLE = "ECR_BENCH_VERBOSITY"
"""Environment variable that holds it, so that worker processes know."""


class Verbosity(StrEnum):
    QUIET = "quiet"
    """Results and errors; no progress."""
    NORMAL = "normal"
    VERBOSE = "verbose"
    """Also what libraries log and warn of, and where an error was raised."""


def verbosity() -> Verbosity:
    """As the command line or the environment variable says; UserError for another value."""
    given = os.environ.get(VARIABLE) or Verbosity.NORMAL
    try:
        return Verbosity(given)
    except ValueError:
        raise UserError(f"{VARIABLE}={given}: allowed are {', '.join(Verbosity)}") from None


@contextmanager
def speaking(quiet: bool, verbose: bool) -> Iterator[None]:
    """Inside, ``verbosity`` is what was asked for; where neither was, it stays. UserError where both were."""
    if quiet and verbose:
        raise UserError("-q and -v: choose one")
    before = os.environ.get(VARIABLE)
    if quiet or verbose:
        os.environ[VARIABLE] = Verbosity.QUIET if quiet else Verbosity.VERBOSE
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def progress_console(console: Console) -> Console:
    """Where progress is shown: ``console``, or nowhere."""
    from rich.console import Console as New

    return New(quiet=True) if verbosity() is Verbosity.QUIET else console
