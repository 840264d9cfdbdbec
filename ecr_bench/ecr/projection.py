"""Projections: from a student's own view of a text (its token ids) into the teacher's space.

Each is fitted once on teacher targets and runs without the teacher afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ecr_bench.errors import UserError
from ecr_bench.io import read_json
from ecr_bench.options import read_options
from ecr_bench.registry import Registry
from ecr_bench.sections import ProjectionConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ecr_bench.ecr.projection_kinds import ProjectionKind
    from ecr_bench.ecr.rows import Centred


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


def project(projection: Projection, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """(N, dim) float32 of texts as a user gives them, without BOS."""
    return projection(tokenizer(list(texts), add_special_tokens=False)["input_ids"])


PROJECTIONS = Registry(
    "projection",
    {
        "token-table": "ecr_bench.ecr.projection_kinds:TokenTableKind",
        "hidden": "ecr_bench.ecr.projection_kinds:HiddenKind",
        "mlp": "ecr_bench.ecr.projection_kinds:MlpKind",
    },
)


def fit_projection(
    config: ProjectionConfig,
    token_ids: Sequence[Sequence[int]],
    targets: torch.Tensor | Centred,
    vocab_size: int,
    encoder: PreTrainedModel | None,
    seed: int,
) -> Projection:
    """Fit the projection ``config.kind`` names on N training rows.

    Args:
        config: kind and its options.
        token_ids: N lists of the student's token ids, without BOS.
        targets: (N, d) float32, the teacher's embeddings after ``Anchors.centre``; or such rows on disk.
        vocab_size: ids at or above it are skipped.
        encoder: frozen causal LM for kinds that read one; left untouched, a cut copy is kept.
        seed: of the training of ``mlp``.

    Raises:
        UserError: no encoder where one is needed, a layer it lacks, or targets that are not finite.
    """
    import torch

    if len(token_ids) != len(targets) or not len(targets):
        raise ValueError(f"{len(token_ids)} texts and {len(targets)} targets: they must match and not be empty")
    kind: type[ProjectionKind] = PROJECTIONS.get(config.kind)
    if isinstance(targets, torch.Tensor):
        targets = targets.float()
        if not torch.isfinite(targets).all():
            raise UserError("projection: the teacher's targets hold values that are not finite")
    elif not kind.streams:
        targets = targets.whole()
    options = read_options(kind.Options, config.options, "projection.options", f"projection {config.kind!r}")
    return kind(config.kind, options).fit(token_ids, targets, vocab_size, encoder, seed)


def load_projection(folder: Path) -> Projection:
    """Read what ``save`` wrote; UserError names the folder when it is not a projection."""
    path = folder / "projection.json"
    meta = read_json(path)
    if not isinstance(meta, dict) or str(meta.get("kind")) not in PROJECTIONS:
        raise UserError(f"{path}: 'kind' must be one of {', '.join(PROJECTIONS)}")
    kind: type[ProjectionKind] = PROJECTIONS.get(meta["kind"])
    return kind.load(folder, meta)
