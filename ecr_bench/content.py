"""What is in a file or folder of the user's, whatever its name, place and time."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from pathlib import Path
from typing import NoReturn

from ecr_bench.errors import UserError
from ecr_bench.io import cache_dir, fingerprint, read_json, write_json
from ecr_bench.reading import user_path

LARGE = 8 * 2**20
"""Bytes from which on the hash of a file is kept."""
SETTLED = 2.0
"""Seconds a file must have been left alone for its hash to be kept: file systems count time in steps."""
MISSING = "missing"
MOST = 100_000
"""Files and folders in a folder whose content is asked for: with more it is hardly the one that was meant."""
NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What the system says of a path that leads nowhere; whatever else it says, something may be there."""


def content_of(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder; 16 hex digits.

    Hidden files and folders (``.git``, ``.cache``) are left out. ``missing`` where there is nothing. UserError for a
    file or folder that cannot be read.
    """
    state = _state(path)
    if state is not None and stat.S_ISREG(state.st_mode):
        return _hash(path, state)[:16]
    if state is None or not stat.S_ISDIR(state.st_mode):
        return MISSING
    return fingerprint([[name, _hash(file, state)] for name, file, state in sorted(_files(path))])


def is_folder(path: Path) -> bool:
    """Whether it leads to a folder. UserError where the system does not say: a name too long, no permission."""
    state = _state(path)
    return state is not None and stat.S_ISDIR(state.st_mode)


def folder_of(model: str) -> Path | None:
    """The folder that a user names as a model, ``~`` being their home; None where there is none of that name, which may
    be one on the hub.

    Whoever reads such a name asks here, so that all read it alike. UserError as of ``user_path`` and ``is_folder``.
    """
    folder = user_path(model)
    return folder if is_folder(folder) else None


def _state(path: Path) -> os.stat_result | None:
    """What the file system says of what ``path`` leads to; None for nothing. UserError where it says neither."""
    try:
        return path.stat()
    except ValueError:  # a name that no file can have
        return None
    except OSError as error:
        if error.errno in NOTHING:
            return None
        _refuse(error, path)


def _refuse(error: OSError, path: Path | None = None) -> NoReturn:
    """UserError for what cannot be read: no permission, a name too long, or a file such as /proc/self/mem.

    ``path``: else the one that ``error`` names.
    """
    said = os.strerror(error.errno or errno.EIO).lower()
    raise UserError(f"{path or error.filename}: cannot be read: {said}") from error


def _files(folder: Path) -> list[tuple[str, Path, os.stat_result]]:
    """Name, place and state of each file, in linked folders too, as who reads ``folder`` finds them."""
    found: list[tuple[str, Path, os.stat_result]] = []
    number = 0
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(here / name)]
        number += len(folders) + len(names)
        if number > MOST:
            raise UserError(f"{folder}: holds more than {MOST:,} files and folders: name the one that is meant")
        for file in (here / name for name in names if not name.startswith(".")):
            if (state := _state(file)) is not None and stat.S_ISREG(state.st_mode):
                found.append((file.relative_to(folder).as_posix(), file, state))
    return found


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it lies in."""
    try:
        return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
    except OSError as error:
        _refuse(error, folder)


def _hash(path: Path, state: os.stat_result) -> str:
    """SHA-256 of a file; that of a large one is kept until anything the file system says of the file changes."""
    if state.st_size < LARGE:
        return _read(path)
    # ctime as well: tools that copy a file can set its mtime back
    seen = [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    kept = cache_dir() / "content" / f"{fingerprint(seen)}.json"
    if kept.is_file() and (known := read_json(kept))["file"] == seen:
        return str(known["sha256"])
    found = _read(path)
    if time.time() - max(state.st_mtime, state.st_ctime) > SETTLED and os.access(_existing(kept), os.W_OK):
        write_json(kept, {"file": seen, "sha256": found})
    return found


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


def _read(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        _refuse(error, path)
