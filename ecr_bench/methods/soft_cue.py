"""ECR without the quantisation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ecr_bench.methods.method import Ingredients, Method, Training

if TYPE_CHECKING:
    from pathlib import Path

    from ecr_bench.ecr.codes import CodeSource
    from ecr_bench.ecr.conditioner import Conditioner
    from ecr_bench.methods.module import ArmModule


class SoftCue(Method):
    """The projected vector itself at the control tokens' places, through a learnt linear map; no anchors."""

    uses_anchors = True
    embeds = True

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.soft import SoftVectors

        assert given.projection is not None
        return SoftVectors.create(given.tokenizer, given.projection, given.control_tokens.count, given.hidden_size)

    def conditioner(self, given: Ingredients) -> Conditioner:
        # one placeholder row for each position, and the null row
        return super().conditioner(dataclasses.replace(given, k=given.control_tokens.count, levels=1))

    def go_on(self, conditioner: Conditioner, base: Path) -> None:
        """The map goes on as pre-training left it."""
        from ecr_bench.ecr.soft import SoftVectors

        if isinstance(conditioner.source, SoftVectors):
            conditioner.source.load_map(base)

    def prepare(self, module: ArmModule, training: Training) -> None:
        from ecr_bench.ecr.soft import SoftVectors

        training.conditioner.attach(module.model)
        source = training.conditioner.source
        if isinstance(source, SoftVectors):
            module.map = source.map  # registered here, it is trained with the model
