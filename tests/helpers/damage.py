"""Ways in which a file on disk goes wrong, one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _flip(at: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[min(len(raw) - 1, int(at * len(raw)))] ^= 1
        path.write_bytes(raw)

    return flip


def _cut(share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(share * len(raw))])

    return cut


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_out(path: Path, outside: Path) -> None:
    """Move the file into the folder ``outside`` and put a link in its place."""
    outside.mkdir(exist_ok=True)
    shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "first byte flipped": _flip(0.0),
    "a byte flipped": _flip(0.5),
    "last byte flipped": _flip(1.0),
    "cut to half": _cut(0.5),
    "emptied": _cut(0.0),
    "lengthened": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "deleted": lambda path: path.unlink(),
    "a folder": _folder,
}


@contextmanager
def damaged(path: Path, damage: str) -> Iterator[None]:
    """Inside, the file is damaged; afterwards it is as it was."""
    raw = path.read_bytes()
    DAMAGES[damage](path)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(raw)
