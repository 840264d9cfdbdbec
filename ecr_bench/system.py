"""What differs between operating systems, in one place: memory of a process and of the machine, in bytes; who owns a
file.

Modules that only POSIX has are imported here alone; where one is missing, psutil or nothing takes its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

if sys.platform == "win32":
    fcntl = resource = None
else:
    import fcntl
    import resource

CGROUP = Path("/sys/fs/cgroup")
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much a container may have: version 2, version 1."""


def return_freed_memory() -> None:
    """Give memory that this process has freed back to the system, where its C library keeps it (glibc)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """Resident size of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def reset_peak_resident() -> None:
    """Start counting ``peak_resident`` anew where the system can (Linux); elsewhere it is that of the whole process."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """Largest resident size of this process in bytes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    if resource is None:
        return int(psutil.Process().memory_info().peak_wset)
    found = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return found if sys.platform == "darwin" else found * 1024  # bytes there, KiB on Linux and the BSDs


def memory_limit() -> int:
    """Bytes that this process can have at most: of the machine, of its container, of ``ulimit -v``."""
    limits = [int(psutil.virtual_memory().total)]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max": none
            limits.append(int(Path(path).read_text()))
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits += [soft] if soft != resource.RLIM_INFINITY else []
    return min(limits)


def memory_free() -> int:
    """Bytes that this process could still take: of the machine and of its container, what they can give up counted."""
    found = [int(psutil.virtual_memory().available)]
    with contextlib.suppress(OSError, ValueError, StopIteration):  # version 2; "max": none
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = next(line for line in (CGROUP / "memory.stat").read_text().splitlines() if line.startswith("file "))
        found.append(limit - used + int(cached.split()[1]))
    return min(*found, memory_limit())


@contextlib.contextmanager
def owned(path: Path) -> Iterator[bool]:
    """Own a file or folder inside; the system ends that with the process, however it ends.

    False where another process owns it, and where the system or the file system has no such locks (Windows).
    """
    handle, got = None, False
    if fcntl is not None:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            got = True
    try:
        yield got
    finally:
        if handle is not None:
            os.close(handle)
