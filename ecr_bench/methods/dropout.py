"""Training on rows that lack their text or their control tokens now and then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ecr_bench.methods.method import Encode, Modifier, Training
from ecr_bench.section import Section

if TYPE_CHECKING:
    import numpy as np

    from ecr_bench.data.encode import Example
    from ecr_bench.data.module import Variation
    from ecr_bench.ecr.control_tokens import ControlTokens
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.methods.recipe import Recipe


class Dropout(Modifier):
    """Hides the text or the control tokens of a training row now and then, so that the model leans on neither alone."""

    class Options(Section):
        """What a training row is shown, drawn anew each time it comes up. Never both at once."""

        text: float = Field(default=0.3, ge=0, le=1)
        """Probability that the text is hidden and only its control tokens are seen."""
        tokens: float = Field(default=0.1, ge=0, le=1)
        """Probability that the control tokens are replaced by null tokens and only the text is seen."""

        @model_validator(mode="after")
        def _is_a_distribution(self) -> Dropout.Options:
            if self.text + self.tokens > 1:
                raise ValueError(f"text {self.text} + tokens {self.tokens} must not exceed 1")
            return self

    options: Options

    def misfit(self, recipe: Recipe) -> str:
        if not recipe.uses_control_tokens:
            return f"{recipe.method.name} has no control tokens"
        return f"{recipe.method.name} shows no text" if recipe.method.drop_cue else ""

    def prepare(self, module: ArmModule, training: Training) -> None:
        self.conditioning = training.conditioner

    def variation(self, encode: Encode) -> Variation | None:
        if self.conditioning.tokens is None:
            return None
        hidden = encode(dataclasses.replace(self.conditioning, drop_cue=True))
        return InputDropout(hidden, self.conditioning.tokens, self.options)


@dataclass(frozen=True)
class InputDropout:
    """Decide for each draw of a row whether its text or its control tokens are hidden.

    ``hidden`` holds the same rows in the same order as ``codes-only`` encodes them: text removed, not masked.
    """

    hidden: Sequence[Example]
    tokens: ControlTokens
    options: Dropout.Options

    def __call__(self, index: int, row: Example, generator: np.random.Generator) -> Example:
        draw = generator.random()
        if draw < self.options.text:
            return self.hidden[index]
        if draw < self.options.text + self.options.tokens:
            return dataclasses.replace(row, ids=self.tokens.absent(row.ids))
        return row
