"""Geometry as a loss instead of a cue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.method import Training
from ecr_bench.section import Section

if TYPE_CHECKING:
    import torch

    from ecr_bench.methods.module import ArmModule


class Relational(Finetune):
    """Plain prompts, but a loss keeps each text's similarities to ECR's semantic anchors; none at test time."""

    class Options(Section):
        """How similarities to the anchors become a loss (methods/relation.py)."""

        weight: float = Field(default=1.0, gt=0, le=1e9)
        """Factor of the relational loss, added to cross-entropy."""
        temperature: float = Field(default=0.1, gt=0, le=100)
        """Cosines to the anchors are divided by it before the softmax."""

    options: Options
    adds_up = True
    uses_anchors = True

    def prepare(self, module: ArmModule, training: Training) -> None:
        from ecr_bench.methods.relation import Relation

        self.relation = Relation.of(training, module.model.config.hidden_size, self.options.temperature)
        module.relation = self.relation  # registered here, its head is trained with the model

    def loss(self, module: ArmModule, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        from ecr_bench.fast.labelled import hidden_states, labelled_logits

        states = hidden_states(module.model, batch["input_ids"])
        plain = module.cross_entropy(batch, labelled_logits(module.model, batch, states))
        kept = self.relation(states, batch["rows"])
        module.log_sum("train/ce", plain)
        module.log_sum("train/relational", kept)
        return plain + self.options.weight * kept
