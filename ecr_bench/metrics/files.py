"""``measures.json``: a list of measures, one object each with the fields of ``types.Measure``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.io import read_json, write_json
from ecr_bench.types import Measure

FILE = "measures.json"
_FIELDS = frozenset(field.name for field in fields(Measure))


def write_measures(path: Path, measures: Iterable[Measure]) -> None:
    """Write measures, atomically."""
    write_json(path, [asdict(measure) for measure in measures])


def read_measures(path: Path) -> list[Measure]:
    """Read what ``write_measures`` wrote; UserError for a missing file or a list of something else."""
    raw = read_json(path)
    if not isinstance(raw, list):
        raise UserError(f"{path}: must be a list of measures")
    return [_measure(path, number, value) for number, value in enumerate(raw)]


def _measure(path: Path, number: int, value: Any) -> Measure:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise UserError(f"{path}: entry {number} is no measure; it must have the keys {', '.join(sorted(_FIELDS))}")
    return Measure(**{**value, "null": None if value["null"] is None else tuple(value["null"])})
