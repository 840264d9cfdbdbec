"""``measures.json``: a list of measures, one object each with the fields of ``types.Measure``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError
from ecr_bench.io import read_json, write_json
from ecr_bench.types import Measure

FILE = "measures.json"
NAMES = {"cell", "arm", "seed"}
"""What an experiment calls the cell; a stage does not know it."""
MEASURES = TypeAdapter(list[Measure])


def write_measures(path: Path, measures: Iterable[Measure], named: bool = False) -> None:
    """Write measures, atomically; without the names of their cells unless ``named``."""
    excluded = {} if named else {"__all__": NAMES}
    write_json(path, MEASURES.dump_python(list(measures), mode="json", exclude=excluded))


def read_measures(path: Path, arms: Mapping[str, Arm] | None = None) -> list[Measure]:
    """Read what ``write_measures`` wrote; ``arms``: printed form -> arm, for measures that were written with names.

    UserError for a missing file or a list of something else.
    """
    try:
        return MEASURES.validate_python(read_json(path), context={"arms": arms or {}})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: not a list of measures: {where}: {first['msg']}") from None
