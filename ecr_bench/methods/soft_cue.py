"""ECR without the quantisation."""

from __future__ import annotations

import dataclasses

from ecr_bench.ecr.codes import CodeSource
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.soft import SoftVectors
from ecr_bench.methods.base import Ingredients, Method, Training


class SoftCue(Method):
    """The projected vector itself at the control tokens' places, through a learnt linear map; no anchors."""

    uses_anchors = True

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource:
        assert given.projection is not None
        return SoftVectors.create(given.tokenizer, given.projection, given.control_tokens.count, given.hidden_size)

    @classmethod
    def conditioner(cls, given: Ingredients) -> Conditioner:
        # one placeholder row for each position, and the null row
        return super().conditioner(dataclasses.replace(given, k=given.control_tokens.count, levels=1))

    def prepare(self, training: Training) -> None:
        training.conditioner.attach(self.model)
        source = training.conditioner.source
        if isinstance(source, SoftVectors):
            self.map = source.map  # registered here, it is trained with the model
