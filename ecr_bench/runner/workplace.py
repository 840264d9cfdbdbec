"""Where a stage is made: one folder a stage, with a lock that the system lets go when its owner dies.

``<out>/store/partial/<kind>/<key>/`` holds ``made`` (what becomes the stage) and ``kept`` (checkpoints and finished
parts, which a later try goes on from). Who holds the lock owns both; where it is free, their owner is dead or done.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

PARTIAL, LOCKS, DAMAGED, MARKERS = "partial", "locks", "damaged", "markers"
"""Folders of the store that hold no finished stages."""


class BusyError(Exception):
    """Another process is at work on the stage."""


@contextlib.contextmanager
def lock(store: Path, name: str, wait: bool = True) -> Iterator[None]:
    """Own ``name`` inside, among all processes that use ``store``. Without ``wait`` BusyError where another does.

    The system lets the lock go when its owner ends, however it does; its empty file stays.
    """
    path = store / LOCKS / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path, timeout=-1 if wait else 0)
    try:
        held.acquire()
    except Timeout:
        raise BusyError(name) from None
    try:
        yield
    finally:
        held.release()


@dataclass(frozen=True)
class Workplace:
    store: Path
    stage_id: str

    @property
    def folder(self) -> Path:
        return self.store / PARTIAL / self.stage_id

    @property
    def kept(self) -> Path:
        """What outlives a kill: the stage itself decides what to put there. It need not exist."""
        return self.folder / "kept"

    @property
    def _made(self) -> Path:
        return self.folder / "made"

    def lock(self, wait: bool = True) -> AbstractContextManager[None]:
        """Own the stage inside. Without ``wait`` BusyError where another process does."""
        return lock(self.store, self.stage_id, wait)

    @contextlib.contextmanager
    def making(self) -> Iterator[Path]:
        """An empty folder to make the stage in, for who holds the lock; when the block succeeds, nothing is left."""
        self._clear()
        _make(self._made)
        try:
            yield self._made
        except BaseException:
            self._clear()
            raise
        self._clear(kept=True)

    def sweep(self) -> None:
        """Delete what is half made, unless its owner lives."""
        with contextlib.suppress(BusyError), self.lock(wait=False):
            self._clear(kept=(self.store / self.stage_id).is_dir())

    def discard(self) -> None:
        """Delete all of it, unless its owner lives."""
        with contextlib.suppress(BusyError), self.lock(wait=False):
            self._clear(kept=True)

    def _clear(self, kept: bool = False) -> None:
        for part in (self._made, *((self.kept,) if kept else ())):
            shutil.rmtree(part, ignore_errors=True)
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            with contextlib.suppress(OSError):  # where it is empty
                folder.rmdir()

    @classmethod
    def all(cls, store: Path) -> Iterator[Workplace]:
        root = store / PARTIAL
        for folder in sorted(root.glob("*/*")):
            yield cls(store, folder.relative_to(root).as_posix())


def _make(folder: Path) -> None:
    """Make ``folder`` and what it lies in, which others may be removing because it was empty."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True)
            return
