"""Processes that end with the one that started them. Nothing heavy is imported here: it is the first thing they do."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def killed_with_parent() -> None:
    """Where the system can (Linux), this process is killed at once when its parent ends, however that ends."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
