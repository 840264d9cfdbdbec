"""Projections: from a student's own view of a text (its token ids) into the teacher's space.

Each is fitted once on teacher targets and runs without the teacher afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel

from ecr_bench.errors import UserError
from ecr_bench.io import read_json
from ecr_bench.registry import Registry
from ecr_bench.sections import ProjectionConfig


class Projection(Protocol):
    """A fitted map. ``parameters`` and ``bytes`` count all that is stored, for honest memory accounting."""

    dim: int
    parameters: int
    bytes: int

    def __call__(self, token_ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Project B lists of token ids (no BOS) to (B, dim) float32, of the norm of a mean target.

        Ids outside the vocabulary are skipped; a list without a known id gives the zero vector.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the projection into its own folder, atomically."""
        ...


PROJECTIONS = Registry(
    "projection",
    {
        "token-table": "ecr_bench.ecr.projection_table:TokenTable",
        "hidden": "ecr_bench.ecr.projection_hidden:HiddenProjection",
        "mlp": "ecr_bench.ecr.projection_hidden:HiddenProjection",
    },
    {
        "token-table": "weighted bag of token ids times a low-rank table; no forward pass",
        "hidden": "affine map of a mean-pooled hidden state of the frozen base model",
        "mlp": "one hidden layer over the same pooled state",
    },
)


def fit_projection(
    config: ProjectionConfig,
    token_ids: Sequence[Sequence[int]],
    targets: torch.Tensor,
    vocab_size: int,
    encoder: PreTrainedModel | None,
    seed: int,
) -> Projection:
    """Fit the projection ``config.kind`` names on N training rows.

    Args:
        config: kind and its strength, rank, layer or width.
        token_ids: N lists of the student's token ids, without BOS.
        targets: (N, d) float32, the teacher's embeddings after ``Anchors.centre``.
        vocab_size: ids at or above it are skipped.
        encoder: frozen causal LM for ``hidden`` and ``mlp``; left untouched, a cut copy is kept.
        seed: of the training of ``mlp``.

    Raises:
        UserError: no encoder where one is needed, a layer it lacks, or targets that are not finite.
    """
    targets = targets.float()
    if len(token_ids) != len(targets) or not len(targets):
        raise ValueError(f"{len(token_ids)} texts and {len(targets)} targets: they must match and not be empty")
    if not torch.isfinite(targets).all():
        raise UserError("projection: the teacher's targets hold values that are not finite")
    kind = PROJECTIONS.get(config.kind)
    fitted: Projection = kind.fit(config, token_ids, targets, vocab_size, encoder, seed)
    return fitted


def load_projection(folder: Path) -> Projection:
    """Read what ``save`` wrote; UserError names the folder when it is not a projection."""
    path = folder / "projection.json"
    meta = read_json(path)
    if not isinstance(meta, dict) or str(meta.get("kind")) not in PROJECTIONS:
        raise UserError(f"{path}: 'kind' must be one of {', '.join(PROJECTIONS)}")
    loaded: Projection = PROJECTIONS.get(meta["kind"]).load(folder, meta)
    return loaded
