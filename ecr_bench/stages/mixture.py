"""The training rows of a cell, the same for all arms of a seed."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ecr_bench.corpora.base import Corpus
from ecr_bench.data.cutting import TextRow, cut_texts, whole_texts
from ecr_bench.data.sampling import balanced_sample
from ecr_bench.items.files import read_items
from ecr_bench.types import Item


def training_rows(
    tokenizer: PreTrainedTokenizerBase, corpus: Path, items: Path, texts: int, seed: int, whole: bool
) -> tuple[list[Item], list[TextRow]]:
    """Labelled items and at most ``texts`` unlabelled texts, cut in two or ``whole``, in the order of a mixture."""
    rows = Corpus.load(corpus / "corpus").dataset.to_pandas()
    drawn = balanced_sample(rows[rows.split == "train"], texts, seed)
    unlabelled = list(zip(drawn.text, drawn.lang, strict=True))
    return read_items(items / "train"), whole_texts(unlabelled) if whole else cut_texts(tokenizer, unlabelled, seed)
