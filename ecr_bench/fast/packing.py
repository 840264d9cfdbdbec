"""Requests -> packed rows -> padded batches (numpy only, no model).

All continuations of one context share one row: the context once, then a prefix tree of the
continuations. A token attends to its ancestors only, and its position is its depth, so every
continuation sees exactly what it would see alone (tree attention, as in SpecInfer, arXiv 2305.09781,
section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Request(NamedTuple):
    """A continuation to score after a context, both as token ids; the context must not be empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(slots=True)
class PackedRow:
    """One context with some of its continuations.

    ``tokens[i]`` has parent ``parents[i]`` (-1 for the first) and position ``depths[i]``. Edge ``e`` says
    that token ``edge_tokens[e]`` is predicted at ``slots[edge_slots[e]]``; the path of a request is the
    edges of its continuation.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    context_length: int
    slots: list[int] = field(default_factory=list)
    edge_slots: list[int] = field(default_factory=list)
    edge_tokens: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Rows padded on the right to (B, L) and their edges, flattened.

    ``slots`` (S,) are flat indices into B*L; ``edge_slots`` (E,) index ``slots``, ascending; ``paths`` (P,)
    are edges of all requests one after the other, ``path_starts`` (R,) where each request begins.
    """

    ids: Ints
    parents: Ints
    depths: Ints
    context_length: int
    """Shortest context: up to here all rows are plain causal."""
    branched: bool
    """Whether any token's parent is not its left neighbour."""
    slots: Ints
    edge_slots: Ints
    edge_tokens: Ints
    requests: Ints
    paths: Ints
    path_starts: Ints


def window(request: Request, max_length: int) -> Request:
    """Drop tokens on the left so that context + continuation fit ``max_length`` inputs, as lm-eval does.

    The last token is never an input, so ``max_length + 1`` tokens are kept. ValueError for a continuation that leaves
    no token of its context: scored on a part of itself it would seem likelier than it is.
    """
    context, continuation = request
    if len(continuation) > max_length:
        raise ValueError(f"a continuation of {len(continuation)} tokens does not fit a window of {max_length}")
    if len(context) + len(continuation) <= max_length + 1:
        return request
    return Request(context[len(continuation) - max_length - 1 :], continuation)


def windows(requests: Sequence[Request], max_length: int) -> list[Request]:
    """``window`` of each.

    Raises ValueError for an empty context (the caller supplies the prefix token) and for an empty continuation, whose
    score would be the best possible.
    """
    for index, request in enumerate(requests):
        if not request[0]:
            raise ValueError(f"request {index} has an empty context: prepend the model's prefix token")
        if not request[1]:
            raise ValueError(f"request {index} has an empty continuation: there is nothing to score")
    return [window(request, max_length) for request in requests]


def pack(requests: Sequence[Request]) -> list[PackedRow]:
    """Group ``requests``, which fit the model's window, by context into rows."""
    groups: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for index, (context, continuation) in enumerate(requests):
        groups.setdefault(context, []).append((index, continuation))
    return [row for context, group in groups.items() for row in _rows(context, group)]


def _rows(context: tuple[int, ...], group: list[tuple[int, tuple[int, ...]]]) -> Iterator[PackedRow]:
    # packing saves the context but every token attends over the whole row; past a few context lengths
    # (or 128 tokens, for the one-token contexts of whole-sentence tasks) a second row is cheaper
    room = max(4 * len(context), 128)
    while group:
        row = PackedRow(list(context), list(range(-1, len(context) - 1)), list(range(len(context))), len(context))
        edges: dict[tuple[int, int], int] = {}
        nodes: dict[int, int] = {}
        slot_of: dict[int, int] = {}
        taken = 0
        for index, continuation in group:
            if taken and len(row.tokens) - len(context) + len(continuation) > room:
                break
            row.requests.append(index)
            row.paths.append(_insert(row, continuation, edges, nodes, slot_of))
            taken += 1
        yield row
        group = group[taken:]


def _insert(
    row: PackedRow,
    continuation: tuple[int, ...],
    edges: dict[tuple[int, int], int],
    nodes: dict[int, int],
    slot_of: dict[int, int],
) -> list[int]:
    """Add a continuation to the row's prefix tree; returns its edges."""
    path = []
    position = row.context_length - 1
    last = len(continuation) - 1
    for step, token in enumerate(continuation):
        edge = edges.get((position, token))
        if edge is None:
            edge = edges[position, token] = len(row.edge_tokens)
            if position not in slot_of:
                slot_of[position] = len(row.slots)
                row.slots.append(position)
            row.edge_slots.append(slot_of[position])
            row.edge_tokens.append(token)
        path.append(edge)
        if step < last:
            node = nodes.get(edge)
            if node is None:
                node = nodes[edge] = len(row.tokens)
                row.tokens.append(token)
                row.parents.append(position)
                row.depths.append(row.depths[position] + 1)
            position = node
    return path


def batches(rows: Sequence[PackedRow], batch_tokens: int, pad_id: int) -> Iterator[Batch]:
    """Longest rows first, as many per batch as ``batch_tokens`` padded tokens allow (at least one)."""
    ordered = sorted(rows, key=lambda row: -len(row.tokens))
    start = 0
    while start < len(ordered):
        count = max(1, batch_tokens // len(ordered[start].tokens))
        yield collate(ordered[start : start + count], pad_id)
        start += count


def collate(rows: Sequence[PackedRow], pad_id: int) -> Batch:
    """Pad ``rows`` and flatten their edges."""
    length = max(len(row.tokens) for row in rows)
    shape = (len(rows), length)
    ids = np.full(shape, pad_id, dtype=np.int64)
    # padding hangs on its left neighbour: nothing descends from it, so nothing attends to it
    chain = np.arange(length, dtype=np.int64)
    parents = np.broadcast_to(chain - 1, shape).copy()
    depths = np.zeros(shape, dtype=np.int64)
    slots: list[int] = []
    edge_slots: list[int] = []
    edge_tokens: list[int] = []
    requests: list[int] = []
    paths: list[int] = []
    lengths: list[int] = []
    edge_base = 0
    for index, row in enumerate(rows):
        size = len(row.tokens)
        ids[index, :size] = row.tokens
        depths[index, :size] = row.depths
        parents[index, row.context_length : size] = row.parents[row.context_length :]
        edge_slots += [len(slots) + slot for slot in row.edge_slots]
        slots += [index * length + slot for slot in row.slots]
        edge_tokens += row.edge_tokens
        requests += row.requests
        for path in row.paths:
            paths += [edge_base + edge for edge in path]
            lengths.append(len(path))
        edge_base += len(row.edge_tokens)
    order = np.argsort(np.asarray(edge_slots), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Batch(
        ids=ids,
        parents=parents,
        depths=depths,
        context_length=min(row.context_length for row in rows),
        branched=bool((parents != chain - 1).any()),
        slots=np.asarray(slots),
        edge_slots=np.asarray(edge_slots)[order],
        edge_tokens=np.asarray(edge_tokens)[order],
        requests=np.asarray(requests),
        paths=rank[np.asarray(paths)],
        path_starts=np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64),
    )


def ancestors(batch: Batch) -> NDArray[np.bool_]:
    """(B, L, L) bool: may token i attend to token j? True for i's ancestors and i itself."""
    count, length = batch.ids.shape
    allowed = np.zeros((count, length, length), dtype=np.bool_)
    head = batch.context_length
    allowed[:, :head, :head] = np.tri(head, dtype=np.bool_)
    rows = np.arange(count)
    for i in range(head, length):
        allowed[:, i] = allowed[rows, batch.parents[:, i]]
        allowed[:, i, i] = True
    return allowed
