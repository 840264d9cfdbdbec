"""Requests -> packed rows -> padded batches (numpy only, no model).

A row is a prefix tree: a context that several continuations share stands in it once, and so does what different
contexts have in common (solved examples, a sentence with one word exchanged). A token attends to its ancestors only,
and its position is its depth, so every continuation sees exactly what it would see alone (tree attention, as in
SpecInfer, arXiv 2305.09781, section 4.2).
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
    """A prefix tree of requests: contexts and continuations alike share what they begin with.

    ``tokens[i]`` has parent ``parents[i]`` (-1 for the first) and position ``depths[i]``. Edge ``e`` says
    that token ``edge_tokens[e]`` is predicted at ``slots[edge_slots[e]]``; the path of a request is the
    edges of its continuation.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    edge_slots: list[int] = field(default_factory=list)
    edge_tokens: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    @property
    def chain(self) -> int:
        """Tokens from the first on whose parent is their left neighbour."""
        return next((i for i, parent in enumerate(self.parents) if parent != i - 1), len(self.tokens))

    @property
    def branched(self) -> bool:
        """Whether any token's parent is not its left neighbour."""
        return self.chain < len(self.tokens)


@dataclass(slots=True)
class Batch:
    """Rows padded on the right to (B, L) and their edges, flattened.

    ``slots`` (S,) are flat indices into B*L; ``edge_slots`` (E,) index ``slots``, ascending; ``paths`` (P,)
    are edges of all requests one after the other, ``path_starts`` (R,) where each request begins.
    """

    ids: Ints
    parents: Ints
    depths: Ints
    chain: int
    """Up to here all rows are plain causal."""
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
    """Put ``requests``, which fit the model's window, into rows with those that they share a context or a beginning."""
    rows: list[PackedRow] = []
    tree, last = _Tree(), None
    for index in sorted(range(len(requests)), key=lambda i: (requests[i].context, requests[i].continuation)):
        request = requests[index]
        inputs = [*request.context, *request.continuation[:-1]]
        if last is None or not tree.takes(inputs, same_context=request.context == last.context):
            tree = _Tree(_room(request))
            rows.append(tree.row)
        tree.add(index, request, inputs)
        last = request
    return rows


def _room(first: Request) -> int:
    # packing saves what is shared but every token attends over the whole row; past a few context lengths (or 128
    # tokens, for the one-token contexts of whole-sentence tasks) or a thousand tokens a second row is cheaper
    length = len(first.context)
    return length + max(min(4 * length, 1024), 128)


class _Tree:
    """A row that grows by requests, up to ``room`` tokens."""

    def __init__(self, room: int = 0) -> None:
        self.row, self.room = PackedRow(), room
        self.nodes: dict[tuple[int, int], int] = {}
        """Token of the row that continues another, by (its parent, its id)."""
        self.edges: dict[tuple[int, int], int] = {}
        """Edge of the row by (token it is predicted at, id)."""
        self.slot_of: dict[int, int] = {}

    def takes(self, inputs: Sequence[int], same_context: bool) -> bool:
        """Whether a request with these inputs belongs here: half of them, or its context, stand here already."""
        new = len(inputs) - self._shared(inputs)
        return (same_context or 2 * new <= len(inputs)) and len(self.row.tokens) + new <= self.room

    def _shared(self, inputs: Sequence[int]) -> int:
        position = -1
        for count, token in enumerate(inputs):
            node = self.nodes.get((position, token))
            if node is None:
                return count
            position = node
        return len(inputs)

    def add(self, index: int, request: Request, inputs: Sequence[int]) -> None:
        context, continuation = request
        position, path = -1, []
        for step, token in enumerate([*inputs, continuation[-1]]):
            if step >= len(context):
                path.append(self._edge(position, token))
            if step < len(inputs):
                position = self._node(position, token)
        self.row.requests.append(index)
        self.row.paths.append(path)

    def _node(self, parent: int, token: int) -> int:
        row = self.row
        if (parent, token) not in self.nodes:
            self.nodes[parent, token] = len(row.tokens)
            row.tokens.append(token)
            row.parents.append(parent)
            row.depths.append(row.depths[parent] + 1 if parent >= 0 else 0)
        return self.nodes[parent, token]

    def _edge(self, position: int, token: int) -> int:
        row = self.row
        if (position, token) not in self.edges:
            self.edges[position, token] = len(row.edge_tokens)
            if position not in self.slot_of:
                self.slot_of[position] = len(row.slots)
                row.slots.append(position)
            row.edge_slots.append(self.slot_of[position])
            row.edge_tokens.append(token)
        return self.edges[position, token]


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
        parents[index, :size] = row.parents
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
        chain=min(row.chain for row in rows),
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
    head = batch.chain
    allowed[:, :head, :head] = np.tri(head, dtype=np.bool_)
    rows = np.arange(count)
    for i in range(head, length):
        allowed[:, i] = allowed[rows, batch.parents[:, i]]
        allowed[:, i, i] = True
    return allowed
