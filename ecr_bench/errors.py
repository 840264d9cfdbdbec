"""The one exception a user is meant to see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


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


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name outside a closed set, listing the set."""
    return UserError(f"unknown {kind} {name!r}: allowed are {', '.join(sorted(allowed))}")
