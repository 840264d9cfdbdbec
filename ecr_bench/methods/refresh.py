"""ECR whose control tokens follow the model. The paper does not say when codes are computed: here, more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ecr_bench.config import Experiment, ProjectionConfig, RefreshConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import Variation
from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.ecr.targets import load_targets
from ecr_bench.errors import UserError
from ecr_bench.methods.base import Encode, Training
from ecr_bench.methods.ecr import Ecr


class _Rows:
    """A variation that looks rows up, so that all of them can be exchanged at once."""

    def __init__(self, encode: Encode):
        self.encode = encode
        self.rows: Sequence[Example] | None = None

    def __call__(self, index: int, row: Example, generator: np.random.Generator) -> Example:
        return row if self.rows is None else self.rows[index]


class EcrRefresh(Ecr):
    """ECR with the projection fitted again several times in training, on the hidden states the model then has."""

    # Anchors stay: they are the teacher's. What moves is the student's side, so the affine map (or MLP) is fitted
    # anew on the kept targets and every row's codes are computed again, training and validation rows alike.
    sections = ("refresh", "projection")

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        if experiment.projection.kind == "token-table":
            raise UserError("projection.kind: ecr+refresh needs hidden or mlp; a token-table does not follow the model")

    def prepare(self, training: Training) -> None:
        self.settings = ProjectionConfig(**training.settings["projection"])
        self.conditioning, self.fit_seed = training.conditioner, training.seed
        self.times = RefreshConfig(**training.settings["refresh"]).times
        self.token_ids, self.targets = load_targets(training.folders["anchors"] / "targets.safetensors")
        self.exchanged: list[_Rows] = []

    def variation(self, encode: Encode) -> Variation | None:
        self.exchanged.append(_Rows(encode))
        return self.exchanged[-1]

    validation_variation = variation

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        steps = self.optimiser.steps
        if batch_idx in {round(steps * i / (self.times + 1)) for i in range(1, self.times + 1)}:
            self.refresh()

    def refresh(self) -> None:
        """Fit the projection on the model as it is and encode all rows with the codes it gives."""
        source = self.conditioning.source
        assert isinstance(source, ProjectionCodes)
        # fitting must not move the random states that training draws from
        with torch.random.fork_rng():
            vocabulary = len(self.conditioning.tokenizer)
            source.projection = fit_projection(
                self.settings, self.token_ids, self.targets, vocabulary, self.model, self.fit_seed
            )
        for rows in self.exchanged:
            rows.rows = rows.encode(self.conditioning)
