"""Corpora that lie as ``PATH/LANG/{name}.jsonl``: the checks and the reading they share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import RawRow, chosen_languages, no_options
from ecr_bench.errors import UserError


def read_languages(
    config: CorpusConfig, title: str, files: Sequence[str], keys: Sequence[str], rows: Callable[..., Sequence[RawRow]]
) -> tuple[list[RawRow], Path]:
    """Rows of the chosen languages under ``options.path``, and that folder.

    Args:
        config: of the corpus; its only option is ``path``.
        title: what a message calls the data, e.g. ``SIB-200``.
        files: names without ``.jsonl``; a folder with the first of them is a language.
        keys: what every line must hold.
        rows: (record, language, name of the file) -> corpus rows.

    Raises UserError for a folder without languages, a missing file, and FILE:LINE for a malformed line.
    """
    no_options(config, ("path",))
    root = _root(config, title)
    found = sorted(path.parent.name for path in root.glob(f"*/{files[0]}.jsonl"))
    if not found:
        raise UserError(f"corpus.options.path: {root} has no LANG/{files[0]}.jsonl; give the folder of {title}")
    result: list[RawRow] = []
    for lang in chosen_languages(config, found):
        for name in files:
            path = root / lang / f"{name}.jsonl"
            if not path.is_file():
                raise UserError(f"no such file: {path}; needed are {', '.join(f'{n}.jsonl' for n in files)}")
            for record in _records(path, keys):
                result += rows(record, lang, name)
    return result, root


def _root(config: CorpusConfig, title: str) -> Path:
    value = config.options.get("path")
    if not isinstance(value, str) or not value:
        raise UserError(f"corpus.options.path: name the folder of {title}, for example --set corpus.options.path=DIR")
    path = Path(value).expanduser()
    if not path.is_dir():
        raise UserError(f"corpus.options.path: no such folder: {path}")
    return path


def _records(path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not isinstance(record, dict) or not set(keys) <= record.keys():
            raise UserError(f"{path}:{number}: needs the keys {', '.join(keys[:-1])} and {keys[-1]}")
        yield record
