"""What a name, a language code and a plain value may be: the rules that every reader of input shares.

Each check returns its value or raises ValueError with what is allowed; who reads a file or a key adds where it stands.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

STORE, EVALUATIONS = "store", "eval"
"""Folders that ``--out`` holds beside the runs."""
RESERVED = frozenset({STORE, EVALUATIONS})
DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{kind}{i}" for kind in ("com", "lpt") for i in range(10))})
"""File names that Windows keeps for devices, with any ending."""
LONGEST_NAME = 100
"""Characters of a run's name: with what is put before and after it, it must fit a file name (255 bytes)."""
LONGEST_PART = 40
"""Characters of a size's name, which is one part of a longer name."""
LARGEST = 2**63 - 1
DEEPEST = 40
"""Levels of nesting of a plain value."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{1,8})*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SECRET = re.compile(
    r"\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-)[A-Za-z0-9_-]{20,}|\bAKIA[A-Z0-9]{16}\b"
    r"|://[^/\s:@]*:[^/\s@]+@"
)
"""Tokens of Hugging Face, GitHub, GitLab, OpenAI, Slack and Amazon; a password in a URL."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, changes of direction, half characters: what moves a terminal or hides text."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def part_name(value: str) -> str:
    """A name that becomes a part of file names."""
    if not _NAME.fullmatch(value):
        raise ValueError("a name has letters a-z, digits, '.', '_' and '-', and starts with a letter or digit")
    if len(value) > LONGEST_PART:
        raise ValueError(f"a name of {len(value)} characters: allowed are {LONGEST_PART}")
    return value


def run_folder(run: str, out: Path) -> Path:
    """Where a finished run is: in ``out`` under its name, or where a path with folders in it says."""
    return Path(run) if {"/", os.sep} & {*run} or run in (".", "..") else out / run


def run_name(value: str) -> str:
    """A name that is a folder of its own in ``--out``, on every file system."""
    if not _NAME.fullmatch(value) or value.endswith("."):
        raise ValueError(
            "a name has letters a-z, digits, '.', '_' and '-', starts with a letter or digit and ends with no '.'"
        )
    if len(value) > LONGEST_NAME:
        raise ValueError(f"a name of {len(value)} characters: allowed are {LONGEST_NAME}")
    if value.casefold() in RESERVED:
        raise ValueError(f"the name is reserved: {', '.join(sorted(RESERVED))} are folders that runs share")
    if value.casefold().partition(".")[0] in DEVICES:
        raise ValueError("the name is reserved: Windows keeps it for a device")
    return value


def file_inside(folder: Path, name: str) -> Path:
    """The file ``name``, a name from outside, of ``folder``; ValueError where it is, or leads, elsewhere."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    odd = not name or posix.is_absolute() or windows.drive or windows.root or "\\" in name or "\0" in name
    if odd or ".." in posix.parts or str(posix) != name or name == ".":
        raise ValueError(f"{name!r:.80} is no file of this folder")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r:.80} is a link out of this folder: put the file itself there")
    return path


def language_code(value: str) -> str:
    """``en``, ``pt-BR``, ``zh-Hans``, ``deu_Latn``: two or three small letters, then subtags."""
    if not _LANGUAGE.fullmatch(value) or len(value) > LONGEST_PART:
        raise ValueError(f"{value!r:.60} is not a language code: write it as en, zh-Hans or deu_Latn")
    return value


def text(value: str) -> str:
    """Text that can be written, printed and used in a path: no half characters, no control characters."""
    if _SURROGATE.search(value):
        raise ValueError("half of a character (a lone surrogate)")
    if found := _CONTROL.search(value):
        raise ValueError(f"the control character {found[0]!r}")
    return value


def secret_at(value: Any, key: str = "") -> str | None:
    """The dotted key of the first text, or of a mapping with a key, that looks like a token or a password in a URL."""
    if isinstance(value, str):
        return (key or "a value") if _SECRET.search(value) else None
    if isinstance(value, dict):
        parts: Iterable[tuple[Any, Any]] = value.items()
        if any(isinstance(name, str) and _SECRET.search(name) for name in value):
            return f"a key of {key or 'the file'}"
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return None
    found = (secret_at(part, f"{key}.{name}".removeprefix(".")) for name, part in parts)
    return next((at for at in found if at), None)


def visible(value: str) -> str:
    """``value`` on one line, with what a terminal would obey written out: ``\\x1b``."""
    return _UNSEEN.sub(
        lambda found: found[0].encode("unicode_escape").decode(), " ".join(value.splitlines()).replace("\t", " ")
    )


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON keeps as it is: finite numbers, text, lists, mappings with text keys."""
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    match value:
        case str():
            return text(value)
        case float() if not math.isfinite(value):
            raise ValueError("numbers must be finite")
        case bool() | None | float():
            return value
        case int() if abs(value) > LARGEST:
            raise ValueError("whole numbers must be below 2**63")
        case int():
            return value
        case list() | tuple():
            return type(value)(plain(item, depth + 1) for item in value)
        case dict():
            if odd := [key for key in value if not isinstance(key, str)]:
                raise ValueError(f"key {odd[0]!r:.40} must be text")
            return {text(key): plain(item, depth + 1) for key, item in value.items()}
    return value


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values, each of them once."""
    if (twice := repeated(values)) is not None:
        raise ValueError(f"{twice!r} is there twice")
    return values


def repeated(values: Iterable[Any]) -> Any | None:
    """The first value that comes a second time, or None."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def file_name(label: str, longest: int = 160) -> str:
    """A file name for any label; different labels have different names, also where case does not count."""
    simple = re.sub(r"[^A-Za-z0-9._+=,-]", "_", label)
    if simple == label and len(label) <= longest and label == label.lower() and label[:1] not in ("", "."):
        return label
    return f"{simple.lstrip('.')[:longest]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def listed(names: Iterable[str], most: int = 20) -> str:
    """``names`` from outside on one line, however odd, long and many they are."""
    names = list(names)
    odd = [not name.isprintable() or len(name) > LONGEST_PART for name in names]
    shown = [f"{name!r:.{LONGEST_PART}}" if is_odd else name for name, is_odd in zip(names, odd, strict=True)]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown[:most]) + more
