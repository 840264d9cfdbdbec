"""The training texts of a corpus, which stay on disk until they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import pyarrow.compute as pc

from ecr_bench.corpora.base import Corpus
from ecr_bench.data.cutting import TextRow, whole_texts

PART = 8192
"""Texts read at once where all are gone through."""


@dataclass(frozen=True)
class WholeTexts(Sequence[TextRow]):
    """Whole texts (``data.cutting.whole_texts``) of the rows ``rows`` (N,) int64 of ``corpus``."""

    corpus: Corpus
    rows: np.ndarray

    @classmethod
    def of(cls, corpus: Corpus) -> WholeTexts:
        """All of the training split, in the order of the corpus."""
        return cls(corpus, pc.indices_nonzero(pc.equal(corpus.table["split"], "train")).to_numpy().astype(np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TextRow]:
        for start in range(0, len(self), PART):
            yield from self[start : start + PART]

    @overload
    def __getitem__(self, index: int) -> TextRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[TextRow]: ...
    def __getitem__(self, index: int | slice) -> TextRow | list[TextRow]:
        if isinstance(index, slice):
            found = self.corpus.at(self.rows[index], "text", "lang")
            return whole_texts(zip(found["text"].tolist(), found["lang"].tolist(), strict=True))
        return self[index : index + 1 or None][0]
