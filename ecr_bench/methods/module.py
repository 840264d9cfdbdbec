"""The one LightningModule of all arms: it trains the model and asks the parts of its recipe what is special."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ecr_bench.data.encode import Example
from ecr_bench.data.module import Variation
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.methods.method import Encode, Training
from ecr_bench.methods.recipe import Recipe
from ecr_bench.sections import OptimiserConfig


class TrainingRows:
    """Rows as each draw shows them: encoded again when codes have changed, then varied by one part after another."""

    def __init__(self, encode: Encode, varied: Recipe | None):
        self.encode, self.recipe = encode, varied
        self.rows: Sequence[Example] | None = None
        self.variations = self._variations()

    def _variations(self) -> list[Variation]:
        found = [part.variation(self.encode) for part in (self.recipe.parts if self.recipe else ())]
        return [variation for variation in found if variation is not None]

    def again(self, conditioner: Conditioner) -> None:
        """Encode all rows with the codes ``conditioner`` now gives."""
        self.rows = self.encode(conditioner)
        self.variations = self._variations()

    def __call__(self, index: int, row: Example, generator: np.random.Generator) -> Example:
        row = row if self.rows is None else self.rows[index]
        for variation in self.variations:
            row = variation(index, row, generator)
        return row


class ArmModule(CausalLMModule):
    """A causal LM trained as a recipe says."""

    def __init__(self, model: PreTrainedModel, optimiser: OptimiserConfig, recipe: Recipe):
        super().__init__(model, optimiser)
        self.recipe = recipe
        self._rows: list[TrainingRows] = []

    def prepare(self, training: Training) -> None:
        """Called once before training."""
        self.conditioner = training.conditioner
        for part in self.recipe.parts:
            part.prepare(self, training)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.recipe.owner("loss").loss(self, batch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for part in self.recipe.parts:
            part.before_step(self, batch_idx)

    @property
    def resumable(self) -> bool:
        """Not where a part changes things between steps and does not say what."""
        return not any(part.changes_unsaid for part in self.recipe.parts)

    def keep(self, folder: Path) -> None:
        for index, part in enumerate(self.recipe.parts):
            part.keep(self, folder / str(index))

    def take_up(self, folder: Path) -> None:
        for index, part in enumerate(self.recipe.parts):
            part.take_up(self, folder / str(index))

    def variation(self, encode: Encode) -> Variation | None:
        """How training rows vary between draws, if they do; ``encode`` gives all of them under a conditioner."""
        return self._keep(TrainingRows(encode, self.recipe))

    def validation_variation(self, encode: Encode) -> Variation | None:
        """The same for validation rows, which are never varied, only encoded again."""
        return self._keep(TrainingRows(encode, None))

    def _keep(self, rows: TrainingRows) -> Variation | None:
        self._rows.append(rows)
        return rows if rows.variations or any(part.follows_model for part in self.recipe.parts) else None

    def encode_again(self) -> None:
        """Encode training and validation rows anew, after the conditioner's codes have changed."""
        for rows in self._rows:
            rows.again(self.conditioner)

    @property
    def adapter_parameters(self) -> int:
        """Numbers trained and stored in addition to the base model's."""
        return sum(part.adapter_parameters(self) for part in self.recipe.parts)

    def save_model(self, folder: Path) -> None:
        """Write the trained model so that ``folder`` can be scored."""
        self.recipe.owner("save_model").save_model(self, folder)
        for part in self.recipe.parts:
            part.save_beside(self, folder)

    @property
    def beside(self) -> tuple[int, int]:
        """Numbers and bytes that its parts store beside model and conditioner, after ``save_model``."""
        found = [part.beside(self) for part in self.recipe.parts]
        return sum(numbers for numbers, _ in found), sum(size for _, size in found)
