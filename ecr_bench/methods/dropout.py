"""ECR trained on rows that lack their text or their control tokens now and then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecr_bench.config import DropoutConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import Variation
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.methods.base import Encode, Training
from ecr_bench.methods.ecr import Ecr


@dataclass(frozen=True)
class InputDropout:
    """Decide for each draw of a row whether its text or its control tokens are hidden.

    ``hidden`` holds the same rows in the same order as ``codes-only`` encodes them: text removed, not masked.
    """

    hidden: Sequence[Example]
    tokens: ControlTokens
    settings: DropoutConfig

    def __call__(self, index: int, row: Example, generator: np.random.Generator) -> Example:
        draw = generator.random()
        if draw < self.settings.text:
            return self.hidden[index]
        if draw < self.settings.text + self.settings.tokens:
            control = range(self.tokens.first_id, self.tokens.first_id + self.tokens.size)
            return dataclasses.replace(row, ids=[self.tokens.null_id if i in control else i for i in row.ids])
        return row


class EcrDropout(Ecr):
    """ECR with text dropout and control-token dropout in training, so that it leans on neither alone."""

    sections = ("dropout",)

    def prepare(self, training: Training) -> None:
        self.conditioning = training.conditioner
        self.settings = DropoutConfig(**training.settings["dropout"])

    def variation(self, encode: Encode) -> Variation | None:
        if self.conditioning.tokens is None:
            return None
        hidden = encode(dataclasses.replace(self.conditioning, drop_cue=True))
        return InputDropout(hidden, self.conditioning.tokens, self.settings)
