"""Where finished stages live: ``<out>/store/<kind>/<key>/``, complete when ``done.json`` is there.

``done.json`` holds the size and SHA-256 of every other file of the folder and a seal over itself. A stage at work has
its place elsewhere (``runner.workplace``), and takes its folder in one step.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_bench.divergence import KEY, DivergedError, reason_of
from ecr_bench.errors import UserError
from ecr_bench.io import disk_errors, fingerprint, json_text, read_json, sha256, sync, sync_tree, write_json
from ecr_bench.names import STORE
from ecr_bench.reading import parse_json, read_text
from ecr_bench.runner.remote import Remote
from ecr_bench.runner.workplace import DAMAGED, BusyError, Workplace, lock
from ecr_bench.stages.work import ResultT, Work

DONE, RUNS = "done.json", "runs"
FORMAT = 2
"""Version of ``done.json``. 1: without sizes and hashes of the files; such a stage is made again."""
LARGE = 8 * 2**20
"""Bytes from which on a file is hashed only where it is about to be read."""


class DamagedStageError(UserError):
    """A finished stage is not what was written."""

    exit_code = 3


@dataclass(frozen=True)
class Store:
    """Content-addressed results under ``root``; a key is the hash of what can change the result."""

    root: Path
    remote: Remote | None = None
    """Where stages are shared with machines that have no part in ``root``, which then holds copies."""

    def path(self, stage_id: str) -> Path:
        """Folder of stage ``kind/key``, whether it exists or not."""
        return self.root / STORE / stage_id

    def workplace(self, stage_id: str) -> Workplace:
        """Where the stage is made."""
        return Workplace(self.root / STORE, stage_id)

    def done(self, stage_id: str) -> bool:
        return (self.path(stage_id) / DONE).is_file()

    def obtain(self, stage_id: str) -> bool:
        """Whether the stage is done, here or elsewhere; if so, it is here now. DamagedStageError where it did not
        arrive as it was written."""
        if self.done(stage_id) or self.remote is None or not self.remote.has(stage_id):
            return self.done(stage_id)
        place, target = self.workplace(stage_id), self.path(stage_id)
        with disk_errors(target), place.lock():
            if not self.done(stage_id):
                self._fetch(stage_id, self.remote)
        return True

    def _fetch(self, stage_id: str, remote: Remote) -> None:
        """For who holds the lock."""
        with self.workplace(stage_id).making() as folder:
            remote.fetch(stage_id, folder)
            if damage := damage_of(folder, whole=True):
                raise DamagedStageError(
                    f"{damage}: {remote.url}/{stage_id} is not what was uploaded; delete it there and give the same "
                    "command again"
                )
            self._take(folder, stage_id)

    def exchange(self, stage_ids: Iterable[str]) -> None:
        """Fetch what only the remote store has of these, and upload what only this one has."""
        if self.remote is None:
            return
        there = self.remote.stages()
        for stage_id in stage_ids:
            if self.done(stage_id) and stage_id not in there:
                self.check(stage_id)
                self.remote.push(stage_id, self.path(stage_id))
            elif stage_id in there:
                self.obtain(stage_id)

    def result(self, stage_id: str) -> dict[str, Any]:
        """What the stage reported when it finished, as plain JSON."""
        return self.record(stage_id)["result"]

    def read(self, work: type[Work[Any, Any, ResultT]], stage_id: str) -> ResultT:
        """What the stage reported when it finished; DivergedError where it was not run for a model that diverged."""
        result = self.result(stage_id)
        if set(result) == {KEY}:
            raise DivergedError(f"{stage_id}: {result[KEY]}")
        return work.Result.model_validate(result)  # type: ignore[return-value]

    def find(self, work: type[Work[Any, Any, ResultT]], stage_id: str) -> ResultT | None:
        """The same; None where it was not run for a model that diverged (``reason`` says which)."""
        try:
            return self.read(work, stage_id)
        except DivergedError:
            return None

    def reason(self, stage_id: str) -> str:
        """Why a finished stage has nothing to go on with; empty where it is sound."""
        return reason_of(self.result(stage_id))

    def record(self, stage_id: str) -> dict[str, Any]:
        """All of ``done.json``: what decided the result, the result, the circumstances it was made in, and its files.

        DamagedStageError where it is not what was written, or was written by another version.
        """
        return record_of(self.path(stage_id))

    def damage(self, stage_id: str, whole: bool) -> str:
        """What is wrong with a finished stage, naming the file; empty where it is as it was written.

        Sizes are compared always, contents of files from ``LARGE`` on only if ``whole``.
        """
        return damage_of(self.path(stage_id), whole)

    def check(self, stage_id: str) -> None:
        """DamagedStageError naming the file unless all of a finished stage is as it was written."""
        if damage := self.damage(stage_id, whole=True):
            raise DamagedStageError(f"{damage}: run the experiment again, which makes this stage anew")

    def set_aside(self, stage_id: str) -> str:
        """Move a damaged stage out of the way of the one that is made again; says what became of it."""
        target = self.root / STORE / DAMAGED / stage_id
        number = 1
        while (place := target.with_name(f"{target.name}.{number}")).exists():
            number += 1
        try:
            with disk_errors(target), self.workplace(stage_id).lock(wait=False):
                if not (self.path(stage_id)).exists() or not self.damage(stage_id, whole=True):
                    return "another run has set it aside"
                place.parent.mkdir(parents=True, exist_ok=True)
                self.path(stage_id).replace(place)
        except BusyError:
            return "another run makes it again"
        return f"set aside in {place}, made again"

    def write(self, stage_id: str, build: Callable[[Path], Mapping[str, Any]], wait: bool = True) -> None:
        """Run ``build(folder) -> record`` in the stage's workplace; the folder takes its name only when whole.

        Where another process is at the stage: waits for it, or BusyError unless ``wait``. Does nothing where that has
        finished it.
        """
        place, target = self.workplace(stage_id), self.path(stage_id)
        with disk_errors(target), place.lock(wait), self._owned_everywhere(stage_id, wait):
            if self.done(stage_id):
                return
            if self.remote and self.remote.has(stage_id):
                return self._fetch(stage_id, self.remote)
            with place.making() as folder:
                body = {"format": FORMAT, **build(folder)}
                body["files"] = {name: _size_and_hash(folder / name) for name in _files(folder)}
                write_json(folder / DONE, {**body, "seal": _seal(body)})
                self._take(folder, stage_id)
            if self.remote:
                self.remote.push(stage_id, target)

    def _take(self, folder: Path, stage_id: str) -> None:
        """A whole stage in ``folder`` takes its name."""
        target = self.path(stage_id)
        sync_tree(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        _take_name(folder, target)
        sync(target.parent)

    def _owned_everywhere(self, stage_id: str, wait: bool) -> AbstractContextManager[None]:
        return self.remote.lock(stage_id, wait) if self.remote else contextlib.nullcontext()

    def use(self, run: str, stages: Iterable[str]) -> None:
        """Note what ``run`` rests on, for as long as its folder is there."""
        (self.root / run).mkdir(parents=True, exist_ok=True)
        write_json(self.root / STORE / RUNS / f"{run}.json", sorted(stages))

    def used(self) -> set[str]:
        """Stages that any run rests on."""
        notes = (self.root / STORE / RUNS).glob("*.json")
        return {str(stage_id) for note in notes if (self.root / note.stem).is_dir() for stage_id in read_json(note)}

    def unnoted(self) -> list[str]:
        """Runs that an older version published: what they rest on is not known."""
        noted = {note.stem for note in (self.root / STORE / RUNS).glob("*.json")}
        return sorted({path.parent.name for path in self.root.glob("*/board.json")} - noted)

    @contextlib.contextmanager
    def publishing(self, run: str) -> Iterator[None]:
        """Own the folder of a run inside; waits for another process that writes there."""
        with lock(self.root / STORE, f"runs/{run}"):
            yield

    @classmethod
    @contextlib.contextmanager
    def owning(cls, folder: Path) -> Iterator[None]:
        """The same for whoever changes a published run in ``folder``, which may have been copied away from its
        store: nobody publishes there then."""
        store = cls(folder.absolute().parent)
        if not (store.root / STORE).is_dir():
            yield
            return
        with store.publishing(folder.name):
            yield

    def workplaces(self) -> Iterator[Workplace]:
        """Of all stages that are being made, or were when their process died."""
        return Workplace.all(self.root / STORE)

    def sweep(self) -> None:
        """Delete what processes that are dead left half made; what a later try can go on from stays."""
        for place in self.workplaces():
            place.sweep()


def record_of(folder: Path) -> dict[str, Any]:
    """All of ``done.json`` in the folder of a stage. DamagedStageError where it is not what was written, or was written
    by another version."""
    path = folder / DONE
    try:
        text = read_text(path)
        record = parse_json(text, path, ours=True)
    except UserError as error:
        raise DamagedStageError(str(error)) from None
    except OSError as error:
        raise DamagedStageError(f"{path}: {error.strerror or error}") from None
    found = record.get("format", 1) if isinstance(record, dict) else None
    if found != FORMAT:
        raise DamagedStageError(f"{path}: format {found!r}, this version reads {FORMAT}")
    if record.get("seal") != _seal(record) or json_text(record) != text:
        raise DamagedStageError(f"{path}: was changed after it was written")
    return dict(record)


def damage_of(folder: Path, whole: bool) -> str:
    """``Store.damage`` of the stage in ``folder``."""
    try:
        files = record_of(folder)["files"]
        there = set(_files(folder))
        for name, (size, digest) in files.items():
            path = folder / name
            if name not in there:
                return f"{path}: missing"
            if path.stat().st_size != size:
                return f"{path}: {path.stat().st_size:,} bytes, written were {size:,}"
            if (whole or size < LARGE) and sha256(path) != digest:
                return f"{path}: was changed after it was written"
        if added := sorted(there - set(files)):
            return f"{folder / added[0]}: was not written by this stage"
    except DamagedStageError as error:
        return str(error)
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    return ""


def _take_name(folder: Path, target: Path) -> None:
    """First writer wins, should a lock not hold (a network file system): whole stages of one key are alike."""
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
            raise
        if not (target / DONE).is_file():  # no stage: what is left of one that was deleted by hand
            shutil.rmtree(target)
            folder.replace(target)


def _files(folder: Path) -> list[str]:
    """Names of all files in ``folder`` but ``done.json``, sorted."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != DONE)


def _size_and_hash(path: Path) -> list[int | str]:
    return [path.stat().st_size, sha256(path)]


def _seal(record: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in record.items() if key != "seal"})
