"""Atomic writes and stable fingerprints."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.reading import parse_json, read_text
from ecr_bench.system import owned

PART = ".part"
"""Ends the name of what is being written and has not taken its own name yet."""
DEEPEST_FOLDER = 400
"""Levels of a path, all of which the standard library can make at once."""
_MADE = 60.0
"""Seconds after which a writer owns what it has made, unless it is dead."""
OF_THE_PLACE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip
"""What the system says of a place that cannot be written to."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
REMEDY = "free some space or choose another folder (--out for results, ECR_BENCH_CACHE for the cache)"


def fingerprint(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cache_dir() -> Path:
    """The user cache folder: ``$ECR_BENCH_CACHE``, else ``$XDG_CACHE_HOME/ecr-bench``, else ``~/.cache/ecr-bench``."""
    if root := os.environ.get("ECR_BENCH_CACHE"):
        return Path(root)
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "ecr-bench"
    try:
        return Path.home() / ".cache" / "ecr-bench"
    except RuntimeError:
        raise UserError("this user has no home folder: set ECR_BENCH_CACHE to the folder of the cache") from None


class DiskError(UserError):
    """A place that cannot be written to: whatever comes next would fail there as well."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn 'no space', 'read-only', 'permission' and their like into a DiskError naming ``path``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (number := _errno_of(error, path)) is None:
            raise
        raise DiskError(f"cannot write {path}: {os.strerror(number).lower()}; {REMEDY}") from error


def _errno_of(error: Exception, path: Path) -> int | None:
    """Why the place cannot be written to; None where the error is about something else."""
    if isinstance(error, OSError) and error.errno is not None:
        # a folder on the way that cannot be made, not a file that is looked for elsewhere
        no_place = error.errno == errno.ENOENT and error.filename and Path(error.filename) in (path, *path.parents)
        return error.errno if no_place or error.errno in OF_THE_PLACE else None
    # safetensors, tokenizers and torch report such things as exceptions of their own
    if found := re.search(r"os error (\d+)", str(error)):
        return int(found[1]) if int(found[1]) in OF_THE_PLACE else None
    said = str(error)
    if "PytorchStreamWriter failed" in said or "unexpected pos" in said:
        return errno.ENOSPC
    return next((number for number in FULL if os.strerror(number) in said), None)


def check_folder(folder: Path, option: str) -> None:
    """UserError that names ``option`` where nothing can be written in ``folder``; leaves no trace of the attempt."""
    if re.match(r"\w\w+:/", str(folder)):  # what a path makes of a URL; D:/ is none
        raise UserError(f"{option} {folder}: must be a folder, not a URL (run and ablate take one as --store)")
    made: list[Path] = []
    try:
        if len(folder.parts) > DEEPEST_FOLDER:
            raise ValueError(f"more than {DEEPEST_FOLDER} folders deep")
        for part in reversed([folder, *folder.parents]):
            if not part.exists():
                part.mkdir()
                made.append(part)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UserError(f"{option} {folder}: cannot write there: {reason}; choose another folder") from None
    finally:
        for part in reversed(made):
            with contextlib.suppress(OSError):
                part.rmdir()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; it takes the name only if the block succeeds and all is on disk."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        os.close(handle)
        temporary = Path(name)
        with owned(temporary):
            try:
                yield temporary
                temporary.chmod(0o644)
                sync(temporary)
                temporary.replace(path)
                sync(path.parent)
            finally:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it takes the name only if the block succeeds and all is on disk.

    What has the name already makes room in one step, so that at any time there is one or the other, or for an instant
    none. Of two writers the later one wins.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART))
        with owned(temporary):
            try:
                yield temporary
                temporary.chmod(0o755)
                sync_tree(temporary)
                while True:
                    try:
                        temporary.replace(path)
                        break
                    except OSError as error:  # on POSIX a folder takes the place of an empty one only
                        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES) or not path.is_dir():
                            raise
                        _remove(path)
                sync(path.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


def _remove(path: Path) -> None:
    """Take the name away in one step, then delete what had it."""
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=PART) as place,
        contextlib.suppress(FileNotFoundError),  # another writer was faster
    ):
        path.replace(Path(place) / path.name)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk: a machine that loses power then keeps them."""
    if os.name == "nt" and path.is_dir():  # a folder cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:  # file systems that know no fsync say EINVAL; a full disk must be heard
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """The same for everything in ``folder``."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def remove_parts(folder: Path) -> None:
    """Delete what writers that were killed left in ``folder``; call it where no other can be writing there."""
    for part in folder.glob(f".*{PART}"):
        _delete(part)


def _sweep(path: Path) -> None:
    """Delete what writers of ``path`` that were killed left beside it."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        with contextlib.suppress(OSError), owned(part) as nobodys:
            if nobodys and time.time() - part.stat().st_mtime > _MADE:
                _delete(part)


def _delete(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """``value`` as ``write_json`` writes it."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file; UserError names the file and line when it is malformed."""
    return parse_json(read_text(path), path, ours=True)
