"""Rows on their way into a corpus: on disk, and of each a few bytes in memory that decide what becomes of it."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ecr_bench.corpora import parts
from ecr_bench.corpora.rows import RawRow, digest, normalise
from ecr_bench.errors import UserError
from ecr_bench.io import disk_errors

LONGEST = 2**29
"""Characters of one text at most: Arrow holds 2 GiB of them, four bytes each at worst."""
WIDE = 16
"""Bytes of a digest that stands for a text: two of a hundred million collide once in 10^22 corpora."""
SCHEMA = pa.schema([(name, pa.string()) for name in RawRow._fields])


class Names:
    """Numbers of the few different values of a column, in the order they came."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.of_row = array("i")

    def add(self, value: str) -> None:
        self.of_row.append(self.numbers.setdefault(value, len(self.numbers)))

    @property
    def values(self) -> list[str]:
        return list(self.numbers)

    @property
    def array(self) -> np.ndarray:
        """(N,) int32."""
        return np.frombuffer(self.of_row, dtype=np.int32)


class Digests:
    """What stands for the texts of a column, in the order they came."""

    def __init__(self) -> None:
        self.of_row = bytearray()

    def add(self, text: str) -> None:
        self.of_row += hashlib.blake2b(text.encode(), digest_size=WIDE).digest()

    @property
    def array(self) -> np.ndarray:
        """(N,) int64: a number for each different text."""
        halves = np.frombuffer(self.of_row, dtype=">u8").reshape(-1, 2)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        ordered = halves[order]
        new = np.any(ordered[1:] != ordered[:-1], axis=1)
        numbers = np.empty(len(halves), dtype=np.int64)
        numbers[order] = np.concatenate([[0], np.cumsum(new)]) if len(halves) else []
        return numbers


class Spool:
    """Rows in ``folder``, in the order they came; ``lang`` and ``split`` of each, and digests of the rest."""

    def __init__(self, rows: Iterable[RawRow], folder: Path, seed: int):
        self.path, self.count = folder / "spool.arrow", 0
        self.lang, self.split = Names(), Names()
        self.texts, self.units, self.meanings, self.labels = (Digests() for _ in range(4))
        self._unit_ranks, self._meaning_ranks, self._lengths = bytearray(), bytearray(), array("q")
        with pa.ipc.new_file(str(self.path), SCHEMA) as stream:
            for part in _parts(rows):  # what reading them raises is none of the disk's errors here
                columns = zip(*part, strict=True)
                with disk_errors(folder):
                    stream.write_batch(pa.record_batch([pa.array(c, pa.string()) for c in columns], schema=SCHEMA))
                for row in part:
                    self._note(row, seed)
        self.table = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()

    def _note(self, row: RawRow, seed: int) -> None:
        self.count += 1
        self.lang.add(row.lang)
        self.split.add(row.split)
        self.texts.add(normalise(row.text))
        self.units.add(row.unit)
        self.meanings.add(row.meaning)
        self.labels.add(row.label)
        self._unit_ranks += digest(f"{seed}/unit/{row.unit}")
        self._meaning_ranks += digest(f"{seed}/meaning/{row.meaning}")
        self._lengths.append(_length(row))

    @property
    def unit_ranks(self) -> np.ndarray:
        """(N,) big-endian uint64: the order that units are drawn in."""
        return np.frombuffer(self._unit_ranks, dtype=">u8")

    @property
    def meaning_ranks(self) -> np.ndarray:
        return np.frombuffer(self._meaning_ranks, dtype=">u8")

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64: characters of each row."""
        return np.frombuffer(self._lengths, dtype=np.int64)

    def rows(self, which: np.ndarray) -> pa.Table:
        """Some rows in the order asked for; no more than these are in memory."""
        found, back = parts.gather(self.table, which)
        return found.combine_chunks().take(pa.array(back))

    def column(self, name: str, which: Sequence[int] | np.ndarray) -> list[str]:
        return self.rows(np.asarray(which, dtype=np.int64)).column(name).to_pylist()


def _parts(rows: Iterable[RawRow]) -> Iterator[list[RawRow]]:
    part: list[RawRow] = []
    held = 0
    for row in rows:
        if part and (len(part) == parts.ROWS or held + _length(row) > parts.CHARACTERS):
            yield part
            part, held = [], 0
        part.append(row)
        held += _length(row)
    if part:
        yield part


def _length(row: RawRow) -> int:
    """Characters; UserError for more than a cell can hold."""
    if (most := max(map(len, row))) > LONGEST:
        raise UserError(f"a text of {most:,} characters ({row.text[:40]!r}...): {LONGEST:,} are allowed")
    return sum(map(len, row))
