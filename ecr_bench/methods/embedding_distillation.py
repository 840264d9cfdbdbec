"""The teacher's embeddings as an auxiliary loss of pre-training: outside knowledge without any token for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.method import Method, Training
from ecr_bench.section import Section

if TYPE_CHECKING:
    import torch

    from ecr_bench.methods.module import ArmModule
    from ecr_bench.sections import ControlTokensConfig


class EmbeddingDistillation(Finetune):
    """Rival: pre-training pulls each text's mean hidden state to the teacher's embedding as well; no tokens."""

    # What ECR is given and no more: one teacher, asked once. But for the texts: ECR's projection is fitted on
    # `teacher.rows` of them, this loss has the teacher's own embedding of every pre-training text.

    class Options(Section):
        """The auxiliary loss, 1 - cos(W h, t), of the mean last hidden state h over a text and its embedding t."""

        weight: float = Field(default=1.0, gt=0, le=1e9)
        """Factor of the loss, added to cross-entropy."""
        centre: bool = True
        """Subtract each language's mean from the embeddings, as for the anchors."""

    options: Options
    adds_up = True
    distils_teacher = True

    def pretrained_as(self, control_tokens: ControlTokensConfig) -> Method:
        return self

    def prepare(self, module: ArmModule, training: Training) -> None:
        if training.pretraining:
            from ecr_bench.methods.embedding_loss import EmbeddingLoss

            width = module.model.config.get_text_config().hidden_size
            module.embedding_loss = EmbeddingLoss.of(training, width, self.options.centre)

    def loss(self, module: ArmModule, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        from ecr_bench.fast.labelled import hidden_states, labelled_logits

        auxiliary = getattr(module, "embedding_loss", None)
        if auxiliary is None:
            return module.cross_entropy(batch)
        states = hidden_states(module.model, batch["input_ids"])
        plain = module.cross_entropy(batch, labelled_logits(module.model, batch, states))
        pulled = auxiliary(states, batch["rows"])
        module.log_sum("train/ce", plain)
        module.log_sum("train/embedding", pulled)
        return plain + self.options.weight * pulled
