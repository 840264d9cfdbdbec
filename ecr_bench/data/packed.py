"""Encoded rows of a corpus of any size: numbers in a file that is mapped into memory, and an Example when one is asked
for.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from ecr_bench.data.encode import Example


class PackedExamples(Sequence[Example]):
    """Rows that lie one after another in a file without a name, which goes when they do.

    Four bytes a token on disk, of which the system keeps in memory what it has room for, and 16 bytes a row in memory.
    """

    def __init__(self, ids: np.ndarray, starts: np.ndarray, loss_from: np.ndarray, lengths: np.ndarray):
        """``ids`` (tokens,) int32, ``starts`` (N + 1,) int64, ``loss_from`` and ``lengths`` (N,) int32: see Example."""
        self.ids, self.starts, self.loss_from, self.lengths = ids, starts, loss_from, lengths

    @classmethod
    def of(cls, parts: Iterable[Sequence[Example]], folder: Path) -> PackedExamples:
        """The rows of all ``parts``, of which one is held at a time; the file lies in ``folder``."""
        starts, loss_from, lengths = array("q", [0]), array("i"), array("i")
        with tempfile.TemporaryFile(dir=folder) as file:
            for part in parts:
                for row in part:
                    file.write(np.asarray(row.ids, dtype=np.int32).tobytes())
                    starts.append(starts[-1] + len(row.ids))
                    loss_from.append(row.loss_from)
                    lengths.append(row.length)
            file.flush()
            # an empty file cannot be mapped
            ids = np.memmap(file, dtype=np.int32, mode="r") if starts[-1] else np.empty(0, dtype=np.int32)
        return cls(ids, np.array(starts, dtype=np.int64), np.array(loss_from), np.array(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        ids = self.ids[self.starts[index] : self.starts[index + 1]].tolist()
        return Example(ids, int(self.loss_from[index]), int(self.lengths[index]))

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of each row, (N,) int64."""
        return np.diff(self.starts)


def lengths_of(rows: Sequence[Example]) -> np.ndarray:
    """``Example.length`` of each, (N,)."""
    return rows.lengths if isinstance(rows, PackedExamples) else np.asarray([row.length for row in rows])


def tokens_of(rows: Sequence[Example]) -> np.ndarray:
    """How many ids each has, (N,)."""
    return rows.tokens if isinstance(rows, PackedExamples) else np.asarray([len(row.ids) for row in rows])
