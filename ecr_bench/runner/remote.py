"""A store behind a URL, for machines that share no folder: stages are uploaded when whole and fetched when needed.

``URL/<kind>/<key>/`` holds copies in folders of their own and ``whole.json``, written last, which names the one that
counts. ``URL/locks/<kind>/<key>`` is there while somebody makes the stage: its owner writes it again and again, and who
finds it older than ``STALE`` takes it over. Two owners at once cost double work, not a mixed stage.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.io import DiskError
from ecr_bench.runner.workplace import LOCKS, MARKERS, BusyError

WHOLE = "whole.json"
BEAT, STALE = 15.0, 90.0
"""Seconds between two signs of life of who holds a lock, and without one after which it is nobody's."""
SETTLE = 0.2
"""Seconds after which two who created one object at the same time both see whose it is."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at a lock that another holds."""


@dataclass(frozen=True)
class Remote:
    url: str

    @property
    def fs(self) -> Any:
        return _file_system(self.url, os.getpid())[0]

    def _at(self, *parts: str) -> str:
        return "/".join((_file_system(self.url, os.getpid())[1].rstrip("/"), *parts))

    def check(self) -> None:
        """UserError where the URL cannot be read or written."""
        name = self._at(MARKERS, secrets.token_hex(8))
        try:
            self.fs.pipe_file(name, b"ecr-bench")
            found = self.fs.cat_file(name)
            self.fs.rm_file(name)
        except Exception as error:
            raise UserError(f"--store {self.url}: cannot be written to: {_reason(error)}") from None
        if found != b"ecr-bench":
            raise UserError(f"--store {self.url}: what is written there is not what is read")

    def stages(self) -> set[str]:
        """Ids of all that are there, whole."""
        with self._errors():
            found = self.fs.glob(self._at("*", "*", WHOLE))
        return {"/".join(name.split("/")[-3:-1]) for name in found}

    def has(self, stage_id: str) -> bool:
        return self._copy(stage_id) is not None

    def _copy(self, stage_id: str) -> str | None:
        """Folder of the copy that counts."""
        data = self._read(self._at(stage_id, WHOLE))
        if data is None:
            return None
        try:
            return self._at(stage_id, str(json.loads(data)["copy"]))
        except (ValueError, KeyError, TypeError):
            raise DiskError(f"--store {self.url}: {stage_id}/{WHOLE}: is not what was written; delete it") from None

    def push(self, stage_id: str, folder: Path) -> None:
        """Upload a whole stage, unless it is there."""
        if self.has(stage_id):
            return
        token = secrets.token_hex(8)
        with self._errors():
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                self.fs.put_file(str(path), self._at(stage_id, token, path.relative_to(folder).as_posix()))
            if not self._create(self._at(stage_id, WHOLE), json.dumps({"copy": token}).encode()):
                self.fs.rm(self._at(stage_id, token), recursive=True)

    def fetch(self, stage_id: str, folder: Path) -> None:
        """Download a stage that is there into ``folder``; whether it is whole is the caller's to look at."""
        place = self._copy(stage_id)
        if place is None:
            raise UserError(f"--store {self.url}: has no stage {stage_id}")
        with self._errors():
            for name in self.fs.find(place):
                inside = PurePosixPath(name[name.index(place.lstrip("/")) + len(place.lstrip("/")) + 1 :])
                if ".." in inside.parts or inside.is_absolute():
                    raise UserError(f"--store {self.url}: {name}: is no name of a file of a stage")
                (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(name, str(folder / inside))

    def mark(self, token: str) -> None:
        """Leave an object by which the store is known."""
        with self._errors():
            self.fs.pipe_file(self._at(MARKERS, token), token.encode())

    def marked(self, token: str) -> bool:
        return self._read(self._at(MARKERS, token)) == token.encode()

    def unmark(self, token: str) -> None:
        with contextlib.suppress(Exception):
            self.fs.rm_file(self._at(MARKERS, token))

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[None]:
        """Own ``name`` inside, among all machines that use the store. Without ``wait`` BusyError where another does."""
        path, owner = self._at(LOCKS, name), f"{platform.node()} {os.getpid()} {secrets.token_hex(8)}".encode()
        while not self._take(path, owner):
            if not wait:
                raise BusyError(name)
            time.sleep(LOOK_AGAIN)
        done = threading.Event()
        alive = threading.Thread(target=self._stay_alive, args=(path, owner, done), daemon=True)
        alive.start()
        try:
            yield
        finally:
            done.set()
            alive.join()
            with contextlib.suppress(Exception):  # nobody waits for it for longer than STALE
                if self._read(path) == owner:
                    self.fs.rm_file(path)

    def _take(self, path: str, owner: bytes) -> bool:
        with self._errors():
            if self._create(path, owner):
                return True
            held = self._read(path)
            if held is None or not self._is_stale(path):
                return False
            if self._read(path) == held:
                with contextlib.suppress(FileNotFoundError):
                    self.fs.rm_file(path)
            return self._create(path, owner)

    def _create(self, path: str, data: bytes) -> bool:
        """Write an object that is not there; False where it is. Where the file system cannot do that in one step, who
        finds its own data there after a moment was the last to write it."""
        from fsspec.implementations.local import LocalFileSystem

        try:
            if isinstance(self.fs, LocalFileSystem):
                self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                with Path(path).open("xb") as handle:
                    handle.write(data)
            else:
                self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except Exception:  # some file systems say it in words of their own
            if self._read(path) is None:
                raise
            return False
        time.sleep(SETTLE)
        return self._read(path) == data

    def _is_stale(self, path: str) -> bool:
        """By the store's own clock: that of this machine may be another."""
        now = self._at(MARKERS, f"now-{secrets.token_hex(8)}")
        try:
            self.fs.pipe_file(now, b"")
            self.fs.invalidate_cache()
            age = self.fs.modified(now) - self.fs.modified(path)
        except FileNotFoundError:
            return False
        finally:
            self.unmark(now.rpartition("/")[2])
        return bool(age.total_seconds() > STALE)

    def _stay_alive(self, path: str, owner: bytes, done: threading.Event) -> None:
        while not done.wait(BEAT):
            with contextlib.suppress(Exception):  # once more after a while
                if self._read(path) != owner:
                    return  # it was taken over
                self.fs.pipe_file(path, owner)

    def _read(self, path: str) -> bytes | None:
        self.fs.invalidate_cache()
        with self._errors():
            try:
                return bytes(self.fs.cat_file(path))
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What goes wrong with the store ends the run in one line."""
        try:
            yield
        except (UserError, BusyError, FileNotFoundError):
            raise
        except Exception as error:
            raise DiskError(f"--store {self.url}: {_reason(error)}") from error


def remote_of(url: str | None) -> Remote | None:
    """UserError for a URL of an unknown kind, one whose package is missing, or one that cannot be written to."""
    if url is None:
        return None
    remote = Remote(url)
    remote.check()
    return remote


@functools.lru_cache(maxsize=8)
def _file_system(url: str, process: int) -> tuple[Any, str]:
    """The file system behind ``url`` and the path in it; of each process its own, for connections survive no fork."""
    import fsspec

    scheme, separator, rest = url.partition("://")
    known = fsspec.available_protocols()
    if not separator or not rest:
        raise UserError(f"--store {url}: must be a URL such as s3://bucket/folder or file:///folder; a folder is --out")
    if scheme not in known:
        raise UserError(f"--store {url}: unknown scheme {scheme!r}: known are {', '.join(sorted(known))}")
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise UserError(
            f"--store {url}: {' '.join(str(error).split())} (for s3: pip install 'ecr-bench[s3]')"
        ) from None
    try:
        options = {"auto_mkdir": True} if scheme in ("file", "local") else {"use_listings_cache": False}
        fs, path = fsspec.url_to_fs(url, skip_instance_cache=True, **options)
    except Exception as error:
        raise UserError(f"--store {url}: {_reason(error)}") from None
    if not hasattr(kind, "cat_file") or not str(path).strip("/"):
        raise UserError(f"--store {url}: names no folder of a bucket")
    return fs, str(path)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
