"""Folders for the time being, among the system's temporary files. One whose owner was killed is swept by the next run.

Each has a lock that the system lets go when its owner ends, however it does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ecr_bench.io import DiskError

PREFIX = "ecr-bench-scratch-"
_LOCK, _INSIDE = "lock", "inside"
_A_DAY = 86_400.0
"""Seconds after which a folder that was never owned is nobody's."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that no other user can read, gone afterwards; DiskError where none can be made."""
    sweep()
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        held = FileLock(folder / _LOCK, thread_local=False)
        held.acquire()
        inside = folder / _INSIDE
        inside.mkdir()  # from here on it is known that who owns the folder holds its lock
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DiskError(f"cannot make a folder for temporary files (TMPDIR says where): {reason}") from error
    try:
        yield inside
    finally:
        shutil.rmtree(inside, ignore_errors=True)
        held.release()
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Delete what processes of this user that are dead left."""
    with contextlib.suppress(OSError):  # no temporary files at all
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError, Timeout):
                if _ours(folder) and _unowned(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _ours(folder: Path) -> bool:
    state = folder.lstat()
    mine = state.st_uid == os.getuid() if os.name != "nt" else True
    return mine and folder.is_dir() and not folder.is_symlink()


def _unowned(folder: Path) -> bool:
    """Timeout where its owner lives."""
    if not (folder / _INSIDE).is_dir():  # just being made, unless that was long ago
        return time.time() - folder.stat().st_mtime > _A_DAY
    with FileLock(folder / _LOCK, timeout=0):
        return True
