"""A Hugging Face dataset as a corpus: by repository id, or a folder written by ``save_to_disk``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset, load_from_disk
from pydantic import Field

from ecr_bench.corpora.base import Corpus, from_rows
from ecr_bench.corpora.columns import ColumnOptions, Columns
from ecr_bench.corpora.rows import SPLITS, RawRow
from ecr_bench.errors import UserError
from ecr_bench.hub import commit_of
from ecr_bench.options import read_options
from ecr_bench.outside import data_set_counts
from ecr_bench.reading import user_path
from ecr_bench.sections import CorpusConfig


class HubOptions(ColumnOptions):
    """The data set and its columns."""

    path: str = Field(min_length=1)
    """Data set on the hub (OWNER/NAME), or a folder saved by datasets."""
    revision: str = ""
    """Branch, tag or commit, for a data set on the hub; empty: ``main``. The commit it is at counts, not its name."""
    config: str | None = None
    """Configuration of the data set."""
    take: str | None = None
    """Only this split of it."""


def build(config: CorpusConfig, options: HubOptions) -> Corpus:
    """Read ``options.path``.

    Splits called train, validation and test are kept as ours; anything else is drawn anew. Raises UserError
    for a data set that cannot be found or reached, a missing column and a language without text.
    """
    parts = _parts(options)
    rows = (row for row in _rows(parts, options) if not config.languages or row.lang in config.languages)
    licences = {part.info.license for part in parts.values() if part.info.license}
    licence = ", ".join(sorted(licences)) or "see its data card"
    return from_rows(rows, config=config, source=options.path, licence=licence)


def _rows(parts: dict[str, Dataset], options: HubOptions) -> Iterator[RawRow]:
    """Of all parts; without a meaning of its own a row is named after its part as well."""
    path = options.path
    for name, part in parts.items():
        columns = Columns.choose(options, part.column_names, f"{path} [{name}]")
        own = name if len(parts) > 1 and name in SPLITS and "split" not in columns.names else ""
        for row in columns.rows(_records(part, f"{path} [{name}]"), f"{path} [{name}]"):
            row = row._replace(split=row.split or own)
            if row.meaning.startswith("row-"):
                row = row._replace(meaning=f"{name}/{row.meaning}", unit=f"{name}/{row.unit}")
            yield row


def options_identity(config: CorpusConfig) -> dict[str, Any]:
    """The options, with the data set by its content, or by the commit it is at on the hub."""
    options = read_options(HubOptions, config.options, "corpus.options", "corpus 'hub'")
    counts = data_set_counts(options.path, options.revision, "corpus.options.path")
    return {key: value for key, value in config.options.items() if key != "revision"} | {"path": counts}


def _parts(options: HubOptions) -> dict[str, Dataset]:
    """Split name -> data set, only ``options.take`` if that is given."""
    path, here = options.path, user_path(options.path)
    try:
        if (here / "state.json").is_file() or (here / "dataset_dict.json").is_file():
            loaded: Any = load_from_disk(str(here))
        elif here.exists():
            loaded = load_dataset(str(here), options.config)
        else:
            loaded = load_dataset(path, options.config, revision=commit_of(path, options.revision, "dataset"))
    except Exception as error:  # each storage back end raises its own kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot load data set {path!r}: {reason:.200}") from error
    parts = dict(loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}
    take = options.take
    if take is not None and take not in parts:
        raise UserError(f"corpus.options.take: {path!r} has no split {take!r}: allowed are {', '.join(parts)}")
    return {take: parts[take]} if take is not None else parts


def _records(part: Dataset, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of ``part`` with class labels as their names."""
    classes = {name: feature for name, feature in part.features.items() if isinstance(feature, ClassLabel)}
    for number, record in enumerate(part, 1):
        named = {
            name: feature.int2str(record[name]) for name, feature in classes.items() if record[name] not in (None, -1)
        }
        yield f"{source} row {number}", {**record, **named}
