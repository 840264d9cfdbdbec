"""A text as the hidden states of a plain model have it: the mean over the tokens of its cue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from ecr_bench import ranks
from ecr_bench.data.cutting import TextRow
from ecr_bench.data.joint import move_spaces
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.methods.teacher_logits import plain_rows
from ecr_bench.types import Item


class CueStates(torch.nn.Module):
    """Where the cue of each training row stands in a row without control tokens.

    Args:
        tokenizer: of the model.
        items, texts: training rows before encoding, items first.
        window: the model's context in tokens.
        known: (N,) bool, the rows that count; the others have no state to speak of.
    """

    ends: torch.Tensor
    """(N,) int64: where each row's cue ends, BOS counted; 0 for rows that do not count."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        texts: Sequence[TextRow],
        window: int,
        known: torch.Tensor,
    ):
        super().__init__()
        self.start = len(Conditioner(tokenizer).prefix)
        cues = cues_of(items, texts)
        prompts = [move_spaces(item.prompt, "")[0] for item in items] + cues[len(items) :]
        rows = plain_rows(tokenizer, items, texts, window)
        offsets = tokenizer(prompts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        after = [sum(end > len(cue) for _, end in spans) for cue, spans in zip(cues, offsets, strict=True)]
        whole = [False] * len(items) + [text.whole for text in texts]
        # a whole text is cue and continuation at once; its last id is no input
        ends = [
            len(row.ids) - 1 if all_of_it else row.loss_from - count
            for row, count, all_of_it in zip(rows, after, whole, strict=True)
        ]
        self.register_buffer("ends", torch.tensor(ends) * known, persistent=False)

    def forward(self, states: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means (B, d) of hidden states (B, T, d) of training rows (B,), and (B,) whether there is one."""
        at = torch.arange(states.shape[1], device=states.device)
        inside = ((at >= self.start) & (at < self.ends[rows][:, None])).to(states.dtype)
        count = inside.sum(1)
        return (states * inside[..., None]).sum(1) / count.clamp(min=1)[:, None], count > 0


def cues_of(items: Sequence[Item], texts: Sequence[TextRow]) -> list[str]:
    """What control tokens may see of each training row."""
    return [item.text for item in items] + [row.cue for row in texts]


def mean_of_present(each: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean of ``each`` (B,) over the rows ``present`` (B,); 0 where there are none.

    Where several devices share a batch, this one's part of the mean over the whole of it.
    """
    return (each * present).sum() / ranks.summed(present.sum()).clamp(min=1)
