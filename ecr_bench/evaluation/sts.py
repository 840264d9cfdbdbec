"""Sentence pairs with human similarity scores (STS): from a folder, or through ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset, load_from_disk

from ecr_bench.errors import UserError
from ecr_bench.hub import commit_of
from ecr_bench.reading import json_lines, user_path

COLUMNS = ["lang", "sentence1", "sentence2", "score"]
SCORES = ("score", "similarity_score", "label")
"""Names that published sets give the human score, in the order they are looked for."""
SPLIT = "test"


def read_sts(path: str, languages: Sequence[str], pairs: int, revision: str = "") -> pd.DataFrame:
    """At most ``pairs`` sentence pairs of each of ``languages`` that the set has, the same ones every time.

    Args:
        path: a folder with ``LANG/test.jsonl`` (``sentence1``, ``sentence2``, ``score``); or a folder written by
            ``save_to_disk``, with a split per language or a column ``lang``; or a data set on the hub
            (OWNER/NAME) with a configuration per language.
        languages: languages a model may know.
        pairs: per language.
        revision: branch, tag or commit of a data set on the hub; empty: ``main``.

    Returns a DataFrame with ``COLUMNS``, grouped by language; ``score`` is float64 on any scale.

    Raises UserError for a set that cannot be read, has none of the languages, or lacks a column.
    """
    frames = [
        pd.DataFrame(rows, columns=COLUMNS).sample(frac=1.0, random_state=0).head(pairs)
        for lang, rows in _by_language(path, sorted(languages), revision)
        if rows
    ]
    if not frames:
        raise UserError(f"geometry.sts_path: {path} has no sentence pairs in {', '.join(sorted(languages))}")
    return pd.concat(frames, ignore_index=True)


SimilarityPair = tuple[str, str, str, float]


def _by_language(path: str, languages: Sequence[str], revision: str) -> Iterator[tuple[str, list[SimilarityPair]]]:
    folder = user_path(path)
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        yield from _from_disk(folder, languages)
    elif any(folder.glob(f"*/{SPLIT}.jsonl")):
        for lang in languages:
            file = folder / lang / f"{SPLIT}.jsonl"
            if file.is_file():
                yield lang, [_row(lang, record, where) for where, record in json_lines(file)]
    else:
        yield from _from_hub(path, languages, revision)


def _from_disk(folder: Path, languages: Sequence[str]) -> Iterator[tuple[str, list[SimilarityPair]]]:
    loaded = load_from_disk(str(folder))
    parts: dict[str, Dataset] = dict(loaded) if isinstance(loaded, DatasetDict) else {SPLIT: loaded}
    if SPLIT in parts:
        column = parts[SPLIT]
        if "lang" not in column.column_names:
            raise UserError(f"{folder}: no column 'lang': columns here are {', '.join(column.column_names)}")
        parts = {lang: column.filter(lambda row, lang=lang: row["lang"] == lang) for lang in languages}
    for lang in languages:
        if lang in parts:
            yield lang, _rows(lang, parts[lang], str(folder))


def _from_hub(path: str, languages: Sequence[str], revision: str) -> Iterator[tuple[str, list[SimilarityPair]]]:
    try:
        commit = None if user_path(path).exists() else commit_of(path, revision, "dataset")
        known = set(languages) & set(get_dataset_config_names(path, revision=commit))
        loaded = {lang: load_dataset(path, lang, split=SPLIT, revision=commit) for lang in sorted(known)}
    except Exception as error:  # each storage back end raises its own kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"geometry.sts_path: {path!r} has no LANG/{SPLIT}.jsonl and cannot be loaded as a data set: {reason:.160}"
        ) from error
    for lang, part in loaded.items():
        yield lang, _rows(lang, part, path)


def _rows(lang: str, part: Dataset, source: str) -> list[SimilarityPair]:
    return [_row(lang, record, f"{source} [{lang}] row {number}") for number, record in enumerate(part, 1)]


def _row(lang: str, record: Any, where: str) -> SimilarityPair:
    names = list(record) if isinstance(record, dict) else []
    score = next((name for name in SCORES if name in names), SCORES[0])
    for name in ("sentence1", "sentence2", score):
        if name not in names:
            raise UserError(f"{where}: no {name!r}: it has {', '.join(names) or 'no columns'}")
    if isinstance(record[score], bool) or not isinstance(record[score], (int, float)):
        raise UserError(f"{where}: {score!r} must be a number (got {record[score]!r:.60})")
    return lang, str(record["sentence1"]), str(record["sentence2"]), float(record[score])
