"""Rows of a table that lies in parts: so many at a time as can be held, and some from anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

ROWS = 65_536
"""Of one part at most."""
CHARACTERS = 64 * 2**20
"""Of one part at most, unless one row has more."""


def cut(lengths: np.ndarray) -> Iterator[slice]:
    """Cut rows of ``lengths`` (N,) characters into parts, in order."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        full = int(np.searchsorted(ends, before + CHARACTERS, side="right"))
        end = min(max(full, start + 1), start + ROWS)
        yield slice(start, end)
        start = end


def gather(table: pa.Table, which: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Rows of ``table`` by their places ``which`` (K,).

    What is returned has them in the order they lie, and for each of ``which`` its place there, int64 (K,). Batch by
    batch, since a take from them all would first put together a column, of which Arrow holds 2 GiB of text at most.
    """
    batches = table.to_batches()
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    order = np.argsort(which, kind="stable")
    ordered = which[order]
    owners = np.searchsorted(starts, ordered, side="right") - 1
    found = []
    for owner in np.unique(owners):
        low, high = np.searchsorted(owners, [owner, owner + 1])
        found.append(batches[int(owner)].take(pa.array(ordered[low:high] - starts[owner])))
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return pa.Table.from_batches(found, table.schema), back
