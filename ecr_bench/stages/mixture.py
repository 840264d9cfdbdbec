"""The training rows of a cell, the same for all arms of a seed."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ecr_bench.corpora.base import Corpus
from ecr_bench.data.cutting import TextRow, cut_texts, whole_texts
from ecr_bench.data.sampling import balanced_sample
from ecr_bench.items.files import read_items
from ecr_bench.types import Item

TEXT = ("text", "lang")


def training_rows(
    tokenizer: PreTrainedTokenizerBase, corpus: Path, items: Path, texts: int, seed: int, whole: bool
) -> tuple[list[Item], list[TextRow]]:
    """Labelled items and at most ``texts`` unlabelled texts, cut in two or ``whole``, in the order of a mixture."""
    whole_corpus = Corpus.load(corpus / "corpus")
    drawn = whole_corpus.at(balanced_sample(whole_corpus.frame("lang", splits=["train"]), texts, seed).index, *TEXT)
    unlabelled = list(zip(drawn.text, drawn.lang, strict=True))
    return read_items(items / "train"), whole_texts(unlabelled) if whole else cut_texts(tokenizer, unlabelled, seed)
