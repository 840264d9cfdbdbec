"""Where a run's sentences are: in the store beside it, never in what is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ecr_bench.corpora.base import Corpus
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import project
from ecr_bench.errors import UserError
from ecr_bench.items.files import read_items
from ecr_bench.items.registry import task_name
from ecr_bench.run import Run
from ecr_bench.types import Item

STORE = "store"
TEXTS = 4000
"""Training texts that are looked through for those nearest to a code."""
NEAREST = 3
"""Of these, shown for each code."""

ItemKey = tuple[str, str]
"""lm-eval's name of the task, and the id of an item."""


def items_of(records: pd.DataFrame, out: Path) -> dict[ItemKey, Item]:
    """The test items that ``records`` answer, found in the store of ``out`` by their ids and right options.

    UserError where no stage there holds them: the run was made elsewhere, or its store was cleaned.
    """
    asked = records.drop_duplicates(["task_name", "item_id"])
    gold = {(row.task_name, row.item_id): int(row.gold) for row in asked.itertuples()}
    for folder in sorted((out / STORE / "items").glob("*/test")):
        found = {(task_name(item), item.item_id): item for item in read_items(folder)}
        if all(key in found and found[key].gold == right for key, right in gold.items()):
            return {key: found[key] for key in gold}
    raise UserError(
        f"{out / STORE}: holds no test items of this run: sentences are not published, look at it where it was run"
    )


@dataclass(frozen=True)
class Codebook:
    """Of one cell: what its control tokens stand for."""

    first: int
    """Id of the first control token."""
    null: int
    texts: dict[int, list[tuple[str, str]]]
    """Control token -> (language, training text) of those nearest to it."""


def codebook(run: Run, cell: str, out: Path) -> Codebook | None:
    """Training texts near each control token of ``cell``; None where these are no anchors or the store lacks it."""
    told = run.provenance.get("fingerprints", {})
    stage = out / STORE / str(told.get("cells", {}).get(cell, "-"))
    corpus = _corpus(out, str(told.get("corpus", "")))
    if corpus is None or not (stage / "model" / "conditioner").is_dir():
        return None
    tokenizer = load_tokenizer(stage / "model")
    conditioner = Conditioner.load(stage / "model" / "conditioner", tokenizer)
    source, tokens = conditioner.source, conditioner.tokens
    if not isinstance(source, ProjectionCodes) or tokens is None or source.anchors.levels > 1:
        return None
    rows = corpus.dataset.to_pandas()
    rows = rows[rows.split == "train"]
    rows = rows.sample(min(TEXTS, len(rows)), random_state=0)
    projected = project(source.projection, tokenizer, rows.text.tolist())
    nearest = (projected @ source.anchors.centroids[0].T).topk(min(NEAREST, len(rows)), dim=0).indices.T.tolist()
    both = list(zip(rows.lang, rows.text, strict=True))
    return Codebook(
        tokens.first_id,
        tokens.null_id,
        {tokens.first_id + code: [both[i] for i in at] for code, at in enumerate(nearest)},
    )


def _corpus(out: Path, fingerprint: str) -> Corpus | None:
    for folder in sorted((out / STORE / "corpus").glob("*/corpus")):
        corpus = Corpus.load(folder)
        if corpus.card.fingerprint == fingerprint:
            return corpus
    return None
