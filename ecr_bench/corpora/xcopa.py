"""XCOPA (Ponti et al. 2020, arXiv 2005.00333): which of two sentences is the cause (effect) of a third.

Read from a folder ``PATH/LANG/{val,test}.jsonl`` with the fields of the Hugging Face data set (CC BY 4.0, not part of
this package). XCOPA has no training split of its own: here nine tenths of ``val`` are training rows and the
rest validates, the same items in every language. All three sentences of an item are text of its unit.
"""

from __future__ import annotations

import json
from typing import Any

from ecr_bench.corpora.base import Corpus, from_rows
from ecr_bench.corpora.language_folders import TEXT, WHOLE, FolderOptions, read_languages
from ecr_bench.corpora.rows import RawRow
from ecr_bench.errors import UserError
from ecr_bench.sections import CorpusConfig

KEYS = {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT, "label": WHOLE, "idx": WHOLE}
QUESTIONS = ("cause", "effect")


def build(config: CorpusConfig, options: FolderOptions) -> Corpus:
    """Three rows an item: the premise (label: the question; slots: the two choices) and each choice."""
    rows, root = read_languages(config, options.path, "XCOPA", ("val", "test"), KEYS, _rows)
    return from_rows(rows, config=config, source=str(root), licence="CC BY 4.0")


def _rows(record: dict[str, Any], lang: str, name: str) -> list[RawRow]:
    unit = f"{name}-{record['idx']}"
    split = "test" if name == "test" else "validation" if int(record["idx"]) % 10 == 9 else "train"
    if record["question"] not in QUESTIONS or record["label"] not in (0, 1):
        raise UserError(f"XCOPA {lang} {unit}: question must be one of {', '.join(QUESTIONS)} and label 0 or 1")
    choices = [" ".join(str(record[key]).split()) for key in ("choice1", "choice2")]
    slots = {"right": choices[record["label"]], "wrong": choices[1 - record["label"]]}
    premise = " ".join(str(record["premise"]).split())
    texts = {"premise": (premise, record["question"], slots)}
    texts |= {f"choice{i}": (text, "choice", {}) for i, text in enumerate(choices, 1)}
    return [
        RawRow(text, lang, f"{unit}/{part}", label, unit, json.dumps(values, ensure_ascii=False), split)
        for part, (text, label, values) in texts.items()
    ]
