"""What is in a file or folder of the user's, whatever its name, place and time."""

from __future__ import annotations

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

    Hidden files and folders (``.git``, ``.cache``) are left out. ``missing`` where there is nothing.
    """
    if path.is_file():
        return _hash(path)[:16]
    if not path.is_dir():
        return MISSING
    return fingerprint([[name, _hash(file)] for name, file in sorted(_files(path))])


def _files(folder: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for number, file in enumerate(folder.rglob("*"), 1):
        if number > MOST:
            raise UserError(f"{folder}: holds more than {MOST:,} files and folders: name the one that is meant")
        place = file.relative_to(folder)
        if not any(part.startswith(".") for part in place.parts) and file.is_file():
            found.append((place.as_posix(), file))
    return found


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
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
