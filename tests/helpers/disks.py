"""Disks that are full: by a limit on the size of files everywhere, by a small file system of its own where one may be
mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecr_bench import system


@contextmanager
def no_room(bytes_a_file: int) -> Iterator[None]:
    """Inside, this process can write so many bytes into a file and then hears that it is too large."""
    assert system.resource is not None
    soft, hard = system.resource.getrlimit(system.resource.RLIMIT_FSIZE)
    system.resource.setrlimit(system.resource.RLIMIT_FSIZE, (bytes_a_file, hard))
    try:
        yield
    finally:
        system.resource.setrlimit(system.resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder: Path, kilobytes: int, read_only: bool = False) -> Iterator[bool]:
    """Inside, ``folder`` is a file system of this size; whether that could be done."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={kilobytes}k" + (",ro" if read_only else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
