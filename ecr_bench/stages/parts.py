"""Finished parts of a stage's work, each written once, so that a stage that was killed does not do them again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, read_json, remove_parts, sha256, write_json
from ecr_bench.names import file_name
from ecr_bench.section import Section

if TYPE_CHECKING:
    import pandas as pd

NoteT = TypeVar("NoteT", bound=Section)
RECORDS, NOTE = "records.parquet", "part.json"


class Kept(Section):
    """``part.json``."""

    records: str
    """SHA-256 of the records."""
    note: str
    """What is to be said of them, as JSON."""


def part(
    kept: Path | None, name: str, kind: type[NoteT], make: Callable[[], tuple[pd.DataFrame, NoteT]]
) -> tuple[pd.DataFrame, NoteT]:
    """Records and a note of them, as ``make`` gives them or an earlier try has left them in ``kept`` as ``name``."""
    if kept is None:
        return make()
    folder = kept / file_name(name)
    if (found := _read(folder, kind)) is not None:
        return found
    records, note = make()
    _write(folder, records, note)
    return records, note


def _write(folder: Path, records: pd.DataFrame, note: Section) -> None:
    from ecr_bench.evaluation.records import write_records

    with atomic_dir(folder) as place:
        write_records(place / RECORDS, records)
        said = Kept(records=sha256(place / RECORDS), note=note.model_dump_json())
        write_json(place / NOTE, said.model_dump(mode="json"))


def _read(folder: Path, kind: type[NoteT]) -> tuple[pd.DataFrame, NoteT] | None:
    """None where it is not there or not whole, in which case it is deleted."""
    from ecr_bench.evaluation.records import read_records

    remove_parts(folder.parent)
    try:
        said = Kept.model_validate(read_json(folder / NOTE))
        if said.records == sha256(folder / RECORDS):
            return read_records(folder / RECORDS), kind.model_validate_json(said.note)
    except (OSError, UserError, ValidationError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return None
