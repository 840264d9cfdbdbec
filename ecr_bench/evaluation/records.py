"""Per-item records: the source of truth for every number on a board (docs/protocol.md, 6)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_path

FORMAT = 1
"""Of the columns; in the metadata of the file. Files without it are of the first."""
_KEY = b"ecr_bench.records"
SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("arm", pa.string()),  # printed form of the arm: a key into the run's table of arms
        ("precision", pa.string()),
        ("seed", pa.int64()),
        ("task", pa.string()),  # a single task: intent, slot, meaning
        ("task_name", pa.string()),  # as lm-eval knows it
        ("grain", pa.string()),  # coarse, fine; empty for public tasks
        ("group", pa.string()),  # seen, unseen
        ("lang", pa.string()),
        ("target_lang", pa.string()),
        ("item_id", pa.string()),
        ("cluster", pa.string()),  # items resampled together
        ("topic", pa.string()),  # what the text is about, by its label; empty where a benchmark has none
        ("control_tokens", pa.list_(pa.int32())),
        ("extra_tokens", pa.int32()),
        ("loglikelihoods", pa.list_(pa.float64())),  # nats, one per option
        ("choice_bytes", pa.list_(pa.int32())),  # UTF-8 bytes of each option
        ("gold", pa.int32()),
        ("predicted", pa.int32()),
        ("correct", pa.bool_()),
    ]
)


def write_records(path: Path, records: pd.DataFrame) -> None:
    """Write records as Parquet, atomically. UserError for records that lack a column or hold another type."""
    if wrong := sorted(set(records.columns) ^ set(SCHEMA.names)):
        raise UserError(f"{path}: records have missing or unknown columns: {', '.join(wrong)}")
    try:
        table = pa.Table.from_pandas(records[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"{path}: a record does not fit the schema: {str(error).splitlines()[0]}") from error
    with atomic_path(path) as temporary:
        # in the place of what pandas says of its own types: files of the same records are the same
        pq.write_table(table.replace_schema_metadata({_KEY: str(FORMAT)}), temporary, compression="zstd")


def undecided(records: pd.DataFrame) -> pd.Series:
    """(N,) whether two options of an item share the highest log-likelihood, so that their order chose.

    As where a tokenizer that does not know a script makes the same tokens of both.
    """
    return records["loglikelihoods"].map(lambda scores: list(scores).count(max(scores)) > 1).astype(bool)


def read_records(path: Path) -> pd.DataFrame:
    """Read what ``write_records`` wrote; UserError when the file is missing, damaged, or of another kind or format."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    if (found := (table.schema.metadata or {}).get(_KEY, b"1")) != str(FORMAT).encode():
        raise UserError(f"{path}: records of format {found.decode(errors='replace')}, this version reads {FORMAT}")
    if missing := sorted(set(SCHEMA.names) - set(table.column_names)):
        raise UserError(f"{path}: no per-item records: column {missing[0]!r} is missing")
    return table.select(SCHEMA.names).to_pandas()
