"""What is in a file or folder of the user's, whatever its name, place and time."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.io import cache_dir, fingerprint, read_json, write_json

LARGE = 8 * 2**20
"""Bytes from which on the hash of a file is kept."""
SETTLED = 2.0
"""Seconds a file must have been left alone for its hash to be kept: file systems count time in steps."""
MISSING = "missing"
MOST = 100_000
"""Files and folders in a folder whose content is asked for: with more it is hardly the one that was meant."""


def content_of(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder; 16 hex digits.

    Hidden files and folders (``.git``, ``.cache``) are left out. ``missing`` where there is nothing. UserError for a
    file that cannot be read.
    """
    if path.is_file():
        return _hash(path)[:16]
    if not path.is_dir():
        return MISSING
    return fingerprint([[name, _hash(file)] for name, file in sorted(_files(path))])


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Name and place of each file, in linked folders too, as who reads ``folder`` finds them."""
    found: list[tuple[str, Path]] = []
    number = 0
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(here / name)]
        number += len(folders) + len(names)
        if number > MOST:
            raise UserError(f"{folder}: holds more than {MOST:,} files and folders: name the one that is meant")
        files = (here / name for name in names if not name.startswith("."))
        found += [(file.relative_to(folder).as_posix(), file) for file in files if file.is_file()]
    return found


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _hash(path: Path) -> str:
    """SHA-256 of a file; that of a large one is kept until anything the file system says of the file changes."""
    state = path.stat()
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
    except OSError as error:  # no permission, or a file such as /proc/self/mem, which is there and cannot be read
        raise UserError(f"{path}: cannot be read: {os.strerror(error.errno or errno.EIO).lower()}") from error
