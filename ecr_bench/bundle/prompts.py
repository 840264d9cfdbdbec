"""A tokenizer that puts the control tokens of a prompt in front of it, for everything that calls one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase

from ecr_bench.data.joint import encode_contexts
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.types import Prompt


class ConditionedCall:
    """Mixed into the class of a tokenizer: calling it gives prompts as the model was trained on them."""

    conditioner: Conditioner
    window: int

    def __call__(
        self,
        text: str | Sequence[str],
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = None,
        **_: Any,
    ) -> BatchEncoding:
        """``input_ids`` and ``attention_mask`` of one prompt or several; control tokens look at all of each.

        Special tokens are those of the conditioner, whatever is asked. With ``truncation`` a prompt loses text on its
        left, never its control tokens; ``max_length`` is the model's window unless given.
        """
        texts = [text] if isinstance(text, str) else list(text)
        room = (max_length or self.window) if truncation else None
        ids = [
            found.ids for found in encode_contexts(self.conditioner, [Prompt(t, t) for t in texts], [room] * len(texts))
        ]
        single = isinstance(text, str) and return_tensors is None
        base: Any = self
        result: BatchEncoding = base.pad(
            {"input_ids": ids[0] if single else ids},
            padding=padding,
            max_length=max_length,
            return_tensors=return_tensors,
        )
        return result


def conditioned(tokenizer: PreTrainedTokenizerBase, conditioner: Conditioner, window: int) -> PreTrainedTokenizerBase:
    """A copy of ``tokenizer`` that adds control tokens when it is called and decodes as before; pads on the left."""
    own: Any = copy.copy(tokenizer)
    own.__class__ = type(f"Conditioned{type(tokenizer).__name__}", (ConditionedCall, type(tokenizer)), {})
    own.conditioner, own.window, own.padding_side = conditioner, window, "left"
    found: PreTrainedTokenizerBase = own
    return found
