"""Corpora that lie as ``PATH/LANG/{name}.jsonl``: the checks and the reading they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ecr_bench.corpora.base import chosen_languages
from ecr_bench.corpora.rows import RawRow
from ecr_bench.errors import UserError
from ecr_bench.names import language_code
from ecr_bench.reading import json_lines, user_path
from ecr_bench.section import Section
from ecr_bench.sections import CorpusConfig

Kinds = tuple[type, ...]
TEXT: Kinds = (str,)
WHOLE: Kinds = (int,)
NAMES = {str: "text", int: "a whole number"}
"""What a message calls a type."""


class FolderOptions(Section):
    """Where the folder is."""

    path: str = Field(min_length=1)
    """Folder of LANG/*.jsonl."""


def read_languages(
    config: CorpusConfig,
    path: str,
    title: str,
    files: Sequence[str],
    keys: Mapping[str, Kinds],
    rows: Callable[..., Sequence[RawRow]],
) -> tuple[list[RawRow], Path]:
    """Rows of the chosen languages under ``path``, and that folder.

    Args:
        config: of the corpus.
        path: the folder.
        title: what a message calls the data, e.g. ``SIB-200``.
        files: names without ``.jsonl``; a folder with the first of them is a language.
        keys: what every line must hold, and of which types.
        rows: (record, language, name of the file) -> corpus rows.

    Raises UserError for a folder without languages, a missing file, and FILE:LINE for a malformed line.
    """
    root = _root(path)
    found = sorted(path.parent.name for path in root.glob(f"*/{files[0]}.jsonl"))
    if not found:
        raise UserError(f"corpus.options.path: {root} has no LANG/{files[0]}.jsonl; give the folder of {title}")
    result: list[RawRow] = []
    for lang in chosen_languages(config, found):
        try:
            language_code(lang)
        except ValueError as error:
            raise UserError(f"{root / lang}: {error}, or name the languages in corpus.languages") from None
        for name in files:
            file = root / lang / f"{name}.jsonl"
            if not file.is_file():
                raise UserError(f"no such file: {file}; needed are {', '.join(f'{n}.jsonl' for n in files)}")
            for record in _records(file, keys):
                result += rows(record, lang, name)
    return result, root


def _root(value: str) -> Path:
    path = user_path(value)
    if not path.is_dir():
        raise UserError(f"corpus.options.path: no such folder: {path}")
    return path


def _records(path: Path, keys: Mapping[str, Kinds]) -> Iterator[dict[str, Any]]:
    for where, record in json_lines(path):
        if not isinstance(record, dict) or not set(keys) <= record.keys():
            *first, last = keys
            raise UserError(f"{where}: needs the keys {', '.join(first)} and {last}")
        for key, kinds in keys.items():
            if type(record[key]) not in kinds:  # a boolean is an int to isinstance
                allowed = " or ".join(NAMES[kind] for kind in kinds)
                raise UserError(f"{where}: {key!r} must be {allowed} (got {record[key]!r:.60})")
        yield record
