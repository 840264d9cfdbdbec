"""``measures.json``: a list of measures, one object each with the fields of ``types.Measure``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ecr_bench.errors import UserError
from ecr_bench.io import read_json, write_json
from ecr_bench.types import Measure

FILE = "measures.json"


def write_measures(path: Path, measures: Iterable[Measure]) -> None:
    """Write measures, atomically."""
    write_json(path, [asdict(measure) for measure in measures])


def read_measures(path: Path) -> list[Measure]:
    """Read what ``write_measures`` wrote; UserError for a missing file or a list of something else."""
    try:
        return TypeAdapter(list[Measure]).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: not a list of measures: {where}: {first['msg']}") from None


def finished_measures(folder: Path) -> list[Measure]:
    """What a finished run measured beside accuracy; nothing where it did not."""
    path = folder / FILE
    return read_measures(path) if path.is_file() else []
