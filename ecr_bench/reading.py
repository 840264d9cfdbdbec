"""Text from outside: UTF-8 or a clear line, JSON without surprises."""

from __future__ import annotations

import codecs
import json
import math
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ecr_bench import formats
from ecr_bench.errors import UserError
from ecr_bench.names import repeated
from ecr_bench.system import memory_limit

_OTHER_MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
"""Encoding -> the bytes such a file starts with; UTF-32 first, whose mark starts with that of UTF-16."""


def user_path(given: str) -> Path:
    """The path a user means, ``~`` being their home folder; UserError where no file can have it."""
    try:
        path = Path(given).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "there is no such user"
        raise UserError(f"{given[:80]!r}: no path of a file: {reason.lower()}") from None
    return path


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read from; UserError where it is none or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise UserError(f"{path}: is a device or a pipe; give a file")
        with path.open("rb") as file:
            yield file
    except MemoryError:
        raise UserError(f"{path}: memory does not hold its {formats.size(path.stat().st_size)}") from None
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_bytes(path: Path) -> bytes:
    """All of a file; UserError as of ``opened``, and where it is larger than memory."""
    limit = memory_limit()  # which reads files of the system: one that is missing there is not this one
    with opened(path) as file:
        if (size := path.stat().st_size) > limit:
            raise UserError(f"{path}: {formats.size(size)}, more than the {formats.size(limit)} of memory here")
        return file.read()


def byte_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with the line feed that ends it, one at a time; UserError as of ``opened``."""
    with opened(path) as file:
        yield from file


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, each with its ending (also a carriage return alone), one at a time.

    UserError as of ``byte_lines`` and ``decode``.
    """
    for number, raw in enumerate(byte_lines(path), 1):
        line = decode(raw, str(path), number)
        several = line.find("\r", 0, -2 if line.endswith("\r\n") else -1) >= 0
        yield from filter(None, re.split(r"(?<=\r)(?!\n)", line) if several else (line,))


def decode(raw: bytes, where: str, first: int = 1) -> str:
    """``raw`` as UTF-8 without its byte order mark; UserError names ``where``, the line and what it seems to be.

    ``first``: number of its first line; what does not begin a file has no such mark.
    """
    for name, marks in _OTHER_MARKS.items():
        if first == 1 and raw.startswith(marks):
            raise UserError(f"{where}: not UTF-8 (it looks like {name}); save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + first
        raise UserError(f"{where}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x}); save it as UTF-8") from None
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + first
        raise UserError(f"{where}:{line}: holds a NUL character; it is no text file, or not UTF-8")
    return text


def read_text(path: Path) -> str:
    """The text of a file, or a UserError that names it."""
    return decode(read_bytes(path), str(path))


def parse_json(text: str, path: Path, line: int | None = None, *, ours: bool = False) -> Any:
    """JSON in which every key stands once and every number is finite.

    Args:
        text: one value.
        path: where it comes from.
        line: its line there; None where it is the whole file.
        ours: written by this program, which writes NaN where training diverged.

    UserError names ``path`` and the line.
    """
    where = f"{path}:{line}" if line else str(path)
    try:
        constant, real = (None, None) if ours else (_no_constant, _finite)
        value = json.loads(text, object_pairs_hook=_object, parse_constant=constant, parse_float=real)
        if "\\ud" in text.lower():  # only an escape can bring half of a character into decoded text
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{line or error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{where}: not JSON: nested too deeply") from None
    except UnicodeEncodeError:
        raise UserError(f"{where}: holds half of a character (a lone surrogate)") from None
    except ValueError as error:  # ours, and that of whole numbers with more digits than Python reads
        reason = "a number has too many digits" if "integer string conversion" in str(error) else error
        raise UserError(f"{where}: {reason}") from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := repeated(key for key, _ in pairs)) is not None:
        raise ValueError(f"key {twice!r:.60} is there twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number: numbers must be finite")


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{number:.40} is too large: numbers must be finite")
    return value


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(``FILE:LINE``, value) of each line that is not blank; UserError names the line that is not JSON in UTF-8."""
    for number, line in enumerate(byte_lines(path), 1):
        if number == 1 and line.startswith(tuple(mark for marks in _OTHER_MARKS.values() for mark in marks)):
            decode(line, str(path))
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            text = line.removesuffix(b"\n").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start} of the line)") from None
        yield where, parse_json(text, path, number)
