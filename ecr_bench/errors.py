"""The one exception a user is meant to see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class UserError(Exception):
    """Bad input. The message is one line naming the thing (file, key, value) and what is allowed.

    The command line prints it as ``ecr-bench: error: MESSAGE`` and exits with ``exit_code``.
    """

    exit_code: ClassVar[int] = 2


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name outside a closed set, listing the set."""
    return UserError(f"unknown {kind} {name!r}: allowed are {', '.join(sorted(allowed))}")
