"""The output head at positions that count: log-probabilities of chosen tokens, and whether each is the argmax.

The vocabulary is cut into pieces, so that the head's weight is read once for many positions and the logits of
a piece stay in the CPU's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear
from transformers import PreTrainedModel

from ecr_bench.fast.after_head import after_head

ELEMENTS = 1 << 21
"""Logits held at once (positions x ids): 8 MB in float32. Larger pieces fall out of the CPU's cache."""
POSITIONS = 256
"""Positions at once where the vocabulary can be cut; with more, its pieces get too short for a quick product."""

Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]
Piece = tuple[int, Callable[[torch.Tensor], torch.Tensor]]
"""How many ids, and states (N, d) -> their logits (N, ids)."""


class Head:
    """The head of one model. Only a plain linear layer is cut; any other runs whole, on fewer positions.

    ValueError for a model whose logits are not a function of that layer's output (``fast.after_head``).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings()
        assert head is not None
        self.head, self.weight, self.bias = head, head.weight, getattr(head, "bias", None)
        after = after_head(model)
        if after is None:
            raise ValueError("its logits are not those of its output layer")
        self.after = after
        self.ids = int(self.weight.shape[0])
        self.plain = type(head) is torch.nn.Linear and not head._forward_hooks and not head._forward_pre_hooks

    def score(self, states: torch.Tensor, slots: NDArray[np.int64], tokens: NDArray[np.int64]) -> Scores:
        """Log-probability (E,) float64 of ``tokens`` (E,) at ``states[slots]`` and 'is the argmax' (E,) bool.

        ``states``: hidden states (S, d). ``slots`` (E,) must ascend.
        """
        rows = POSITIONS if self.plain else max(16, ELEMENTS // self.ids)
        values, greedy = np.empty(len(slots)), np.empty(len(slots), dtype=np.bool_)
        for start in range(0, len(states), rows):
            some = states[start : start + rows]
            low, high = np.searchsorted(slots, [start, start + rows])
            chosen = [torch.from_numpy(part).to(states.device) for part in (slots[low:high] - start, tokens[low:high])]
            found = self._chosen(some, *chosen)
            values[low:high], greedy[low:high] = (part.cpu().numpy() for part in found)
        return values, greedy

    def _chosen(
        self, states: torch.Tensor, slots: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.empty(len(slots), device=states.device)
        first = torch.zeros(len(slots), dtype=torch.bool, device=states.device)
        highest = torch.full((len(states),), -torch.inf, device=states.device)
        totals, start = [], 0
        for width, piece in self._pieces(max(1, ELEMENTS // len(states))):
            logits = self.after(piece(states)).float()
            top = logits.amax(-1)
            at = ((tokens >= start) & (tokens < start + width)).nonzero()[:, 0]
            picked = logits[slots[at], tokens[at] - start]
            values[at] = picked
            # the first of equals wins, as in lm-eval; argmax is slow and only needed where a token may win
            wins = (picked == top[slots[at]]) & (picked > highest[slots[at]])
            hits = at[wins]
            first[hits] = logits[slots[hits]].argmax(-1) == tokens[hits] - start
            totals.append(top + (logits - top[:, None]).exp_().sum(-1).log())
            highest = torch.maximum(highest, top)
            start += width
        return values - torch.stack(totals).logsumexp(0)[slots], first & (values == highest[slots])

    def _pieces(self, size: int) -> Iterator[Piece]:
        """The vocabulary in pieces of ``size`` ids, in order."""
        if not self.plain:
            yield self.ids, self.head
            return
        for start in range(0, self.ids, size):
            part = slice(start, start + size)
            weight, bias = self.weight[part], None if self.bias is None else self.bias[part]
            yield len(weight), partial(linear, weight=weight, bias=bias)
