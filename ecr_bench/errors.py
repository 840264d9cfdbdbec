"""The one exception a user is meant to see."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

REFUSED = frozenset({
    errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EPIPE,
})  # fmt: skip
"""What is no fault of the program: places, permissions, room and limits."""
OF_MEMORY = (
    "OutOfMemoryError",
    "can't allocate memory",
    "Cannot allocate memory",
    "failed to map segment",
    "new thread",
)
"""As CUDA, torch, the system, its loader and Python say it."""


class UserError(Exception):
    """Bad input. The message is one line naming the thing (file, key, value) and what is allowed.

    The command line prints it as ``ecr-bench: error: MESSAGE`` and exits with ``exit_code``. Whatever a message quotes,
    it is one line that a terminal can show: line breaks become spaces and what cannot be printed is escaped.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        super().__init__(_printable(" ".join(message.splitlines())))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def about(source: str) -> Iterator[None]:
    """Put ``source``, a file or a key, in front of what a UserError says that does not begin with it."""
    try:
        yield
    except UserError as error:
        if source and not str(error).startswith(f"{source}:"):
            error.args = UserError(f"{source}: {error}").args
        raise


def of_the_system(error: Exception) -> UserError | None:
    """One line where the system refused a path, room, memory or another process; None for anything else."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(words in said for words in OF_MEMORY):
        return UserError("memory is full: use a smaller batch, fewer --workers or a larger machine")
    if isinstance(error, RuntimeError) and said.startswith("RuntimeError: Symlink loop"):  # pathlib before Python 3.13
        return UserError(f"{str(error).removeprefix('Symlink loop from ')}: {os.strerror(errno.ELOOP).lower()}")
    if not isinstance(error, OSError) or error.errno not in REFUSED:
        return None
    where = f"{error.filename!s:.200}: " if error.filename else ""
    return UserError(f"{where}{os.strerror(error.errno).lower()}")


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name outside a closed set, listing the set."""
    return UserError(f"unknown {kind} {name!r}: allowed are {', '.join(sorted(allowed))}")
