"""Peak memory of a piece of work, in bytes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from pathlib import Path

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings (malloc.h)."""


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of giving each large block back and asking for a new one.

    A new block's pages are mapped one by one at first use: for the logits of a step thousands, which took 7 to 12 % of
    a training step on the machine this was measured on. Linux with glibc only; nothing happens elsewhere.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        # some versions allow 32 MB at most; the second alone would make things worse
        if library.mallopt(_MMAP_THRESHOLD, 1 << 30) or library.mallopt(_MMAP_THRESHOLD, 32 << 20):
            library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def reset_peak_memory() -> None:
    """Start counting anew, on the GPU and (Linux only) for this process.

    What earlier work has freed goes back to the system first: it would count as in use otherwise.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes: the GPU's allocated peak where there is one, else the largest resident size of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
