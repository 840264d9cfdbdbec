"""SIB-200 (Adelani et al. 2024, arXiv 2309.07445): the topic of a sentence, the same sentences in each language.

Read from a folder ``PATH/LANG/{train,dev,test}.jsonl`` with ``index_id``, ``category`` and ``text`` in each line;
the sentences are FLORES-200's (CC BY-SA 4.0) and are not part of this package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import Corpus, RawRow, chosen_languages, from_rows, no_options
from ecr_bench.errors import UserError

FILES = {"train": "train", "dev": "validation", "test": "test"}


def build(config: CorpusConfig) -> Corpus:
    """Read ``options.path`` in its own splits; ``meaning`` and ``unit`` are the sentence's ``index_id``.

    Raises UserError for a folder without languages, a missing file, and FILE:LINE for a malformed line.
    """
    no_options(config, ("path",))
    root = _root(config)
    found = sorted(path.parent.name for path in root.glob("*/train.jsonl"))
    if not found:
        raise UserError(f"corpus.options.path: {root} has no LANG/train.jsonl; give the folder of SIB-200")
    rows = [row for lang in chosen_languages(config, found) for row in _language(root / lang, lang)]
    return from_rows(rows, config=config, source=str(root), licence="CC BY-SA 4.0")


def _root(config: CorpusConfig) -> Path:
    value = config.options.get("path")
    if not isinstance(value, str) or not value:
        raise UserError("corpus.options.path: name the folder of SIB-200, for example --set corpus.options.path=DIR")
    path = Path(value).expanduser()
    if not path.is_dir():
        raise UserError(f"corpus.options.path: no such folder: {path}")
    return path


def _language(folder: Path, lang: str) -> Iterator[RawRow]:
    for name, split in FILES.items():
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise UserError(f"no such file: {path}; needed are {', '.join(f'{n}.jsonl' for n in FILES)}")
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if line.strip():
                yield _row(line, f"{path}:{number}", lang, split)


def _row(line: str, where: str, lang: str, split: str) -> RawRow:
    try:
        record = json.loads(line)
        text, label, unit = str(record["text"]), str(record["category"]), str(record["index_id"])
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: needs the keys text, category and index_id") from error
    return RawRow(" ".join(text.split()), lang, unit, label, unit, split=split)
