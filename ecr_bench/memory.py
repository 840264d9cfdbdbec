"""Peak memory of a piece of work, in bytes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
from pathlib import Path

import torch


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


def free_memory() -> int | None:
    """Bytes that a model could still take: of the GPU where there is one, else of the machine or of the control group
    this process is in; None where the system does not say."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    found = [free for free in (_free_of_the_machine(), _free_of_the_group()) if free is not None]
    return min(found, default=None)


def _free_of_the_machine() -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _free_of_the_group() -> int | None:
    """Of version 2 of control groups; no limit gives None."""
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = next(line for line in (group / "memory.stat").read_text().splitlines() if line.startswith("file "))
        return limit - used + int(cached.split()[1])
    return None
