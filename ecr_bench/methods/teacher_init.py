"""The teacher's geometry as the starting point of the token embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecr_bench.errors import UserError
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.method import Method, Training

if TYPE_CHECKING:
    import torch

    from ecr_bench.config import Experiment
    from ecr_bench.ecr.projection import Projection
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.sections import ControlTokensConfig


class TeacherInit(Finetune):
    """Rival: token embeddings start where the projection puts each token in teacher space; no tokens, plain prompts."""

    uses_anchors = True

    def pretrained_as(self, control_tokens: ControlTokensConfig) -> Method:
        return self

    def check(self, experiment: Experiment) -> None:
        from ecr_bench.ecr.projection import PROJECTIONS

        if PROJECTIONS.get(kind := experiment.projection.kind).reads_model:
            fit = [name for name in PROJECTIONS if not PROJECTIONS.get(name).reads_model]
            raise UserError(f"projection.kind: {self.name} needs {' or '.join(fit)}; {kind} starts from the embeddings")

    def prepare(self, module: ArmModule, training: Training) -> None:
        import torch

        if not training.pretraining:
            return
        assert training.given.projection is not None
        weight = module.model.get_input_embeddings().weight
        assert isinstance(weight, torch.Tensor)
        with torch.no_grad():
            start_from(weight, training.given.projection, len(training.given.tokenizer))


def start_from(weight: torch.Tensor, projection: Projection, vocabulary: int) -> None:
    """Put the projection of each of ``vocabulary`` tokens into an embedding (V, hidden), in place.

    The projections (vocabulary, d), less their mean, are turned onto their principal axes, of which the first
    ``hidden`` are kept (zeros where there are fewer), and scaled to the standard deviation that the embedding had. A
    token that the projection does not know keeps its row.
    """
    import torch

    vectors = projection([[token] for token in range(vocabulary)])
    known = vectors.norm(dim=-1) > 0
    centred = vectors[known] - vectors[known].mean(0)
    left, scale, _ = torch.linalg.svd(centred.double(), full_matrices=False)
    kept = min(weight.shape[1], len(scale))
    found = torch.zeros(len(centred), weight.shape[1], dtype=torch.float64)
    found[:, :kept] = left[:, :kept] * scale[:kept]
    rows = torch.arange(vocabulary)[known]
    weight[rows] = (found * (weight.std() / found.std())).to(weight.dtype)
