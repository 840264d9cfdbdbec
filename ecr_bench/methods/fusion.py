"""The probe's answer beside the language model's: outside knowledge at the output, where ECR puts it at the input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ecr_bench.errors import UserError
from ecr_bench.methods.method import Modifier, Training

if TYPE_CHECKING:
    from ecr_bench.methods.module import ArmModule


class Fusion(Modifier):
    """Adds the score of a linear probe on the projection to that of the language model, weighted on validation rows."""

    # Of a task, an option scores a log p(option | prompt) + b log p_probe(option | text): logarithmic pooling, a and b
    # by least cross-entropy over the options of the validation items.

    uses_anchors = True

    def prepare(self, module: ArmModule, training: Training) -> None:
        if not training.held_out:
            raise UserError("fusion: no validation item to weight probe and language model on")
        self.training = training

    def beside(self, module: ArmModule) -> tuple[int, int]:
        from ecr_bench.ecr.codes import ProjectionCodes

        projection, source = self.training.given.projection, self.training.conditioner.source
        assert projection is not None
        known = isinstance(source, ProjectionCodes)  # whose projection is counted already
        return (
            self.fused.parameters + (0 if known else projection.parameters),
            self.fused.bytes + (0 if known else projection.bytes),
        )

    def save_beside(self, module: ArmModule, folder: Path) -> None:
        from ecr_bench.methods.fused import Fused

        training = self.training
        assert training.given.projection is not None
        self.fused = Fused.fit(module.model, training)
        self.fused.save(folder / "fusion")
