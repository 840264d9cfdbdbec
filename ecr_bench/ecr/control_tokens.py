"""Control tokens: new vocabulary ids, one per anchor (and level), plus one null token.

The ids exist in the model's embedding only, not in the tokenizer's vocabulary: no user text can spell
a control token, and tokenisation of text is the same with and without ECR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ecr_bench.sections import Placement


@dataclass(frozen=True)
class ControlTokens:
    """The block of new ids ``first_id .. first_id + levels * k`` (the last one is the null token)."""

    first_id: int
    k: int
    levels: int = 1

    @property
    def null_id(self) -> int:
        """The token that says 'nothing to look at'."""
        return self.first_id + self.k * self.levels

    @property
    def size(self) -> int:
        """New vocabulary rows, null token included."""
        return self.k * self.levels + 1

    def ids(self, codes: torch.Tensor) -> torch.Tensor:
        """Map codes (B, m) int64 in [0, k) to token ids (B, m); column i uses level min(i, levels - 1)."""
        level = torch.arange(codes.shape[1]).clamp(max=self.levels - 1)
        return self.first_id + level * self.k + codes

    def absent(self, ids: Sequence[int]) -> list[int]:
        """``ids`` with the null token in place of every control token; handles of soft cues lie beyond and count."""
        return [self.null_id if token >= self.first_id else token for token in ids]

    def add_to(self, model: PreTrainedModel, std: float, seed: int) -> None:
        """Grow ``model``'s vocabulary to hold the block and draw its rows from N(0, std²).

        transformers' own initialisation makes new rows almost identical (std .0006), so that the
        model could not tell one anchor from another at the start. A vocabulary that is already
        padded beyond ``first_id`` keeps its size if the block fits.
        """
        if _weight(model.get_input_embeddings()).shape[0] < self.first_id + self.size:
            model.resize_token_embeddings(self.first_id + self.size, mean_resizing=False)
        generator = torch.Generator().manual_seed(seed)
        rows = slice(self.first_id, self.first_id + self.size)
        matrices = [_weight(model.get_input_embeddings())]
        head = model.get_output_embeddings()
        if head is not None and head.weight is not matrices[0]:
            matrices.append(_weight(head))
        with torch.no_grad():
            for weight in matrices:
                new = torch.randn(self.size, weight.shape[1], generator=generator) * std
                weight[rows] = new.to(weight.dtype).to(weight.device)


def _weight(layer: torch.nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def place(ids: Sequence[int], control: Sequence[int], placement: Placement, question: int, start: int = 1) -> list[int]:
    """Put ``control`` among ``ids``, a prompt that starts with ``start`` ids nothing may come before (BOS).

    Args:
        ids: token ids of the prompt.
        control: the control token ids, possibly none.
        placement: ``prefix`` after BOS; ``infix`` before the question, that is, before position
            ``question``; ``suffix`` at the end of the prompt; ``interleaved`` at even distances.
        question: index in ``ids`` where the question (last line of the prompt) starts.
        start: 1, or 0 for tokenizers without BOS.
    """
    if not control:
        return list(ids)
    if placement == "interleaved":
        result: list[int] = list(ids[:start])
        body = ids[start:]
        for index, token in enumerate(control):
            low, high = (len(body) * i // len(control) for i in (index, index + 1))
            result += [token, *body[low:high]]
        return result
    at = {"prefix": start, "infix": question, "suffix": len(ids)}[placement]
    return [*ids[:at], *control, *ids[at:]]
