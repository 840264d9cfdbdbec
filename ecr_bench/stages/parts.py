"""Finished parts of a stage's work, each written once, so that a stage that was killed does not do them again."""

from __future__ import annotations

import contextlib
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
    from torch import Tensor

NoteT = TypeVar("NoteT", bound=Section)
RECORDS, TENSORS, NOTE = "records.parquet", "tensors.safetensors", "part.json"


class Kept(Section):
    """``part.json``."""

    data: str
    """SHA-256 of the file of records or tensors."""
    note: str = ""
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


def tensor_part(kept: Path | None, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by name, as ``make`` gives them or an earlier try has left them in ``kept`` as ``name``."""
    from safetensors.torch import load_file, save_file

    if kept is None:
        return make()
    folder = kept / file_name(name)
    if _whole(folder, TENSORS):
        return load_file(folder / TENSORS)
    made = {label: tensor.contiguous() for label, tensor in make().items()}
    with atomic_dir(folder) as place:
        save_file(made, place / TENSORS)
        write_json(place / NOTE, Kept(data=sha256(place / TENSORS)).model_dump(mode="json"))
    return made


def _write(folder: Path, records: pd.DataFrame, note: Section) -> None:
    from ecr_bench.evaluation.records import write_records

    with atomic_dir(folder) as place:
        write_records(place / RECORDS, records)
        said = Kept(data=sha256(place / RECORDS), note=note.model_dump_json())
        write_json(place / NOTE, said.model_dump(mode="json"))


def _read(folder: Path, kind: type[NoteT]) -> tuple[pd.DataFrame, NoteT] | None:
    """None where it is not there or not whole, in which case it is deleted."""
    from ecr_bench.evaluation.records import read_records

    if (said := _whole(folder, RECORDS)) is not None:
        with contextlib.suppress(UserError, ValidationError):
            return read_records(folder / RECORDS), kind.model_validate_json(said.note)
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _whole(folder: Path, file: str) -> Kept | None:
    """What is said of a part that is as it was written; any other is deleted."""
    remove_parts(folder.parent)
    with contextlib.suppress(OSError, UserError, ValidationError):
        said = Kept.model_validate(read_json(folder / NOTE))
        if said.data == sha256(folder / file):
            return said
    shutil.rmtree(folder, ignore_errors=True)
    return None
