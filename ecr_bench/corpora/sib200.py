"""SIB-200 (Adelani et al. 2024, arXiv 2309.07445): the topic of a sentence, the same sentences in each language.

Read from a folder ``PATH/LANG/{train,dev,test}.jsonl`` with ``index_id``, ``category`` and ``text`` in each line;
the sentences are FLORES-200's (CC BY-SA 4.0) and are not part of this package.
"""

from __future__ import annotations

from typing import Any

from ecr_bench.corpora.base import Corpus, from_rows
from ecr_bench.corpora.language_folders import TEXT, FolderOptions, read_languages
from ecr_bench.corpora.rows import RawRow
from ecr_bench.sections import CorpusConfig

FILES = {"train": "train", "dev": "validation", "test": "test"}
KEYS = {"text": TEXT, "category": TEXT, "index_id": (str, int)}


def build(config: CorpusConfig, options: FolderOptions) -> Corpus:
    """Read ``options.path`` in its own splits; ``meaning`` and ``unit`` are the sentence's ``index_id``."""
    rows, root = read_languages(config, options.path, "SIB-200", list(FILES), KEYS, _rows)
    return from_rows(rows, config=config, source=str(root), licence="CC BY-SA 4.0")


def _rows(record: dict[str, Any], lang: str, name: str) -> list[RawRow]:
    text, label, unit = (str(record[key]) for key in KEYS)
    return [RawRow(" ".join(text.split()), lang, unit, label, unit, split=FILES[name])]
