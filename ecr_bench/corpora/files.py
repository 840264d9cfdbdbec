"""A user's own JSONL, CSV or Parquet file as a corpus."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ecr_bench.corpora.base import Corpus, from_rows
from ecr_bench.corpora.columns import ColumnOptions, Columns
from ecr_bench.corpora.rows import RawRow
from ecr_bench.errors import UserError
from ecr_bench.names import listed, repeated
from ecr_bench.reading import json_lines, opened, text_lines, user_path
from ecr_bench.sections import CorpusConfig

RawRecord = tuple[str, dict[str, Any]]
PARQUET_ROWS, PARQUET_BYTES = 4096, 2**20
"""Rows, and bytes of each column as they lie in the file, that are in memory at a time."""


class FileOptions(ColumnOptions):
    """The file and its columns."""

    path: str = Field(min_length=1)
    """JSONL, CSV or Parquet file."""


def build(config: CorpusConfig, options: FileOptions) -> Corpus:
    """Read ``options.path``; the other options name its columns.

    Raises UserError ``FILE:LINE: reason`` for a malformed line, and for an empty file, a missing column,
    a language without text or a requested language that is not there.
    """
    path = user_path(options.path)
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path}: unknown ending {path.suffix!r}: allowed are {', '.join(sorted(READERS))}")
    read = READERS[path.suffix.lower()]
    # read twice, so that no record is held
    present: dict[str, None] = {}
    count = 0
    for _, record in read(path):
        present.update(dict.fromkeys(record))
        count += 1
    if not count:
        raise UserError(f"{path}: empty; give at least one row")
    columns = Columns.choose(options, present, str(path))
    rows = _wanted(columns.rows(read(path), str(path)), config.languages, path)
    return from_rows(rows, config=config, source=str(path), licence="the user's own")


def _wanted(rows: Iterable[RawRow], languages: Sequence[str], path: Path) -> Iterator[RawRow]:
    """Those in ``languages``, or all; UserError at the end for one that none was in."""
    found: set[str] = set()
    for row in rows:
        found.add(row.lang)
        if not languages or row.lang in languages:
            yield row
    for lang in languages:
        if lang not in found:
            raise UserError(f"corpus.languages: {path} has no text in {lang!r}: allowed are {', '.join(sorted(found))}")


def _jsonl(path: Path) -> Iterator[RawRecord]:
    for where, record in json_lines(path):
        if not isinstance(record, dict):
            raise UserError(f"{where}: each line must be an object {{...}} (got {type(record).__name__})")
        yield where, record


def _csv(path: Path) -> Iterator[RawRecord]:
    reader = csv.DictReader(text_lines(path), strict=True)
    try:
        _check_header(path, reader.fieldnames or [])
        for record in reader:
            where = f"{path}:{reader.line_num}"
            if None in record or None in record.values():
                raise UserError(f"{where}: needs {len(reader.fieldnames or [])} fields, as many as the header")
            yield where, record
    except csv.Error as error:
        # line_num is the last good line, so the faulty record starts on the next.
        raise UserError(f"{path}:{reader.line_num + 1}: not CSV: {error}") from error


def _parquet(path: Path) -> Iterator[RawRecord]:
    with opened(path):
        pass  # Arrow says less of what cannot be opened
    try:
        # both, or Arrow reads whole columns of a row group ahead
        file = pq.ParquetFile(pa.OSFile(str(path)), buffer_size=PARQUET_BYTES, pre_buffer=False)
        _check_header(path, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(PARQUET_ROWS):
            for record in batch.to_pylist():
                number += 1
                yield f"{path}:row {number}", record
    except MemoryError as error:  # one of Arrow's is an ArrowException as well
        raise UserError(f"{path}: memory does not hold {PARQUET_ROWS} of its rows") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Arrow reports damage as any of these
        raise UserError(f"{path}: not a Parquet file, or a damaged one") from error


def _check_header(path: Path, names: Sequence[str]) -> None:
    if (twice := repeated(names)) is not None:
        raise UserError(f"{path}: two columns are called {twice!r:.60}: columns here are {listed(names)}")


READERS: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
