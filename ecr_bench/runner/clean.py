"""What the store and the cache hold that no run uses, and how to be rid of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ecr_bench import formats
from ecr_bench.errors import UserError
from ecr_bench.io import cache_dir
from ecr_bench.names import STORE
from ecr_bench.runner.failures import FOLDER as FAILED
from ecr_bench.runner.store import DONE, RUNS, Store
from ecr_bench.runner.workplace import DAMAGED, LOCKS, MARKERS, PARTIAL, BusyError, lock

OTHERS = frozenset({DAMAGED, FAILED, LOCKS, MARKERS, PARTIAL, RUNS})
"""Folders of the store that are no kind of stage."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Remains:
    """Something that could go."""

    what: str
    path: Path
    bytes: int
    cache: bool = False
    """Whether it would have to be computed again, by a run that comes after this."""


def bytes_of(text: str | None, option: str) -> int | None:
    """``500M``, ``20G``, ``1.5T`` or bytes; None for None. UserError naming ``option`` for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise UserError(f"{option} {text}: must be a size such as 500M, 20G or 1.5T")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total


def remains(store: Store) -> list[Remains]:
    """Of the store, largest first: nothing that a run uses, that is being made, or that an interrupted run goes on
    from; and no stage where it is not known what a run uses (``Store.unnoted``)."""
    used = store.used()
    unused = [] if store.unnoted() else [stage_id for stage_id in _stages(store) if stage_id not in used]
    found = [Remains(f"stage {stage_id}", store.path(stage_id), 0) for stage_id in unused]
    found += [Remains(f"damaged {path.parent.name}/{path.name}", path, 0) for path in _below(store, DAMAGED)]
    found += [
        Remains(f"checkpoints of {place.stage_id}", place.folder, 0)
        for place in store.workplaces()
        if place.stage_id not in used or store.done(place.stage_id)
    ]
    found += [Remains(f"half of {path.name.split('.')[1]}", path, 0) for path in (store.root / STORE).glob("*/.?*")]
    sized = (Remains(one.what, one.path, size_of(one.path)) for one in found)
    return sorted(sized, key=lambda one: -one.bytes)


def caches() -> list[Remains]:
    """What can be computed again, on this machine, for all runs of this user."""
    root = cache_dir()
    found = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [Remains(f"cache {path.name}", path, size_of(path), cache=True) for path in found]


def free(store: Store, found: Iterable[Remains]) -> int:
    """Delete what no process is at; returns the bytes that are free now."""
    freed = 0
    for one in found:
        with contextlib.suppress(BusyError), _owned(store, one.path):
            (one.path / DONE).unlink(missing_ok=True)  # first, so that half of a stage never counts as one
            shutil.rmtree(one.path, ignore_errors=True)
            freed += one.bytes - size_of(one.path) if one.path.exists() else one.bytes
    return freed


def keep_below(store: Store, most: int) -> None:
    """Free what no run uses where the store holds more than ``most`` bytes; UserError where that is not enough."""
    if (held := size_of(store.root / STORE)) <= most:
        return
    held -= free(store, remains(store))
    if held > most:
        raise UserError(
            f"{store.root / STORE}: {formats.size(held)}, more than --max-disk allows ({formats.size(most)}), all used "
            "by runs: allow more, or delete the folder of a run and give the same command again"
        )


@contextlib.contextmanager
def _owned(store: Store, path: Path) -> Iterator[None]:
    """The lock of the stage that ``path`` belongs to, if it belongs to one. BusyError where a process is at it."""
    root = store.root / STORE
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if parts[:1] in ((PARTIAL,),):
        parts = parts[1:]
    if len(parts) != 2 or parts[0] in OTHERS or parts[1].startswith("."):
        yield
        return
    with lock(root, "/".join(parts), wait=False):
        yield


def _stages(store: Store) -> Iterator[str]:
    root = store.root / STORE
    for kind in sorted(path for path in root.glob("*") if path.is_dir() and path.name not in OTHERS):
        yield from (f"{kind.name}/{path.name}" for path in sorted(kind.iterdir()) if not path.name.startswith("."))


def _below(store: Store, folder: str) -> list[Path]:
    return sorted((store.root / STORE / folder).glob("*/*"))
