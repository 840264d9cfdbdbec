"""The training rows of a cell, the same for all arms of a seed."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ecr_bench.corpora.base import Corpus
from ecr_bench.data.cutting import TextRow, cut_texts
from ecr_bench.data.sampling import balanced_sample
from ecr_bench.items.files import read_items
from ecr_bench.types import Item


def training_rows(
    tokenizer: PreTrainedTokenizerBase, corpus: Path, items: Path, texts: int, seed: int
) -> tuple[list[Item], list[TextRow]]:
    """Labelled items and at most ``texts`` unlabelled texts, in the order of a cell's mixture."""
    rows = Corpus.load(corpus / "corpus").dataset.to_pandas()
    unlabelled = balanced_sample(rows[rows.split == "train"], texts, seed)
    cut = cut_texts(tokenizer, list(zip(unlabelled.text, unlabelled.lang, strict=True)), seed)
    return read_items(items / "train"), cut
