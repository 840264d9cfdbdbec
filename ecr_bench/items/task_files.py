"""The lm-eval YAML files that say how items are asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FALLBACK = "label"
"""A task of a plugin has no file here; all of them are asked the same way."""
_INCLUDE = re.compile(r"^include:\s*(\S+)\s*$", re.MULTILINE)


def base_file(task: str, folder: Path) -> Path:
    """What all languages of ``task`` share, in the ``folder`` of all tasks."""
    own = folder / task / f"_{task}.yaml"
    return own if own.is_file() else folder / FALLBACK / f"_{FALLBACK}.yaml"


def task_files(task: str, folder: Path) -> list[Path]:
    """All files that decide how items of ``task`` are asked, whatever the language; groups only name tasks."""
    waiting, found = [base_file(task, folder), *(folder / task).glob(f"ecr_{task}_*.yaml")], set[Path]()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _included(path)
    return sorted(found)


def _included(path: Path) -> Iterator[Path]:
    yield from (path.parent / name for name in _INCLUDE.findall(path.read_text(encoding="utf-8")))
