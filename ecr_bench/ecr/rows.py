"""What anchors and projection are fitted on where there is too much of it for memory: read a part at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, overload

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ecr_bench.ecr.centring import centred

STREAMED = 100_000
"""Rows above which nothing is held as a whole that is as large as the rows are many."""
PART = 8192
"""Rows read at once."""


class Vectors(Protocol):
    """N vectors on disk (``teachers.cache.StoredVectors``)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """(n, d) float32."""
        ...


class Centred:
    """The first ``len(langs)`` of ``vectors``, each less the mean of its language, as ``ecr.centring.centred``."""

    def __init__(self, vectors: Vectors, langs: Sequence[str], means: Mapping[str, torch.Tensor]):
        self.vectors, self.langs, self.means = vectors, langs, means

    def __len__(self) -> int:
        return len(self.langs)

    def at(self, rows: np.ndarray) -> torch.Tensor:
        """(n, d) float32 of rows by number."""
        return centred(torch.from_numpy(self.vectors[rows]), [self.langs[row] for row in rows.tolist()], self.means)

    def parts(self) -> Iterator[torch.Tensor]:
        """All rows in order, PART at a time."""
        for start in range(0, len(self), PART):
            yield self.at(np.arange(start, min(start + PART, len(self))))

    def whole(self) -> torch.Tensor:
        """(N, d) float32."""
        return torch.cat(list(self.parts()))


class TokenIds(Sequence[list[int]]):
    """Token ids of N texts without BOS, four bytes each."""

    def __init__(self, ids: np.ndarray, starts: np.ndarray):
        """``ids`` (tokens,) int32; row i is ``ids[starts[i]:starts[i + 1]]``."""
        self.ids, self.starts = ids, starts

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> TokenIds:
        """Tokenised a part at a time."""
        ids, starts = array("i"), array("q", [0])
        for start in range(0, len(texts), PART):
            part = list(texts[start : start + PART])
            for row in tokenizer(part, add_special_tokens=False)["input_ids"]:
                ids.extend(row)
                starts.append(len(ids))
        return cls(np.array(ids, dtype=np.int32), np.array(starts, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        found: list[int] = self.ids[self.starts[index] : self.starts[index + 1]].tolist()
        return found


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Sequence[list[int]]:
    """Token ids of each text, without BOS."""
    if len(texts) > STREAMED:
        return TokenIds.of(tokenizer, texts)
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return found
