"""The kinds of projection: what each can be told, and how it is fitted and read again. The maps are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ecr_bench.errors import UserError
from ecr_bench.options import NoOptions
from ecr_bench.section import Section

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ecr_bench.ecr.projection import Projection
    from ecr_bench.ecr.rows import Centred


class ProjectionKind:
    """A way from a student's token ids into teacher space. Subclass, give ``fit`` and ``load``, register."""

    Options: ClassVar[type[Section]] = NoOptions
    reads_model: ClassVar[bool] = False
    """Whether it looks at hidden states of the base model, and so changes as the model does."""
    streams: ClassVar[bool] = False
    """Whether ``fit`` takes targets that lie on disk (``ecr.rows.Centred``); else it gets all of them in memory."""

    options: Section

    def __init__(self, name: str, options: Section):
        self.name, self.options = name, options

    def fit(
        self,
        token_ids: Sequence[Sequence[int]],
        targets: Any,
        vocab_size: int,
        encoder: PreTrainedModel | None,
        seed: int,
    ) -> Projection:
        """See ``projection.fit_projection``, which has checked the input."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any]) -> Projection:
        """Read what the projection's ``save`` wrote; ``meta``: its ``projection.json``."""
        raise NotImplementedError


class TokenTableKind(ProjectionKind):
    """Weighted bag of token ids times a low-rank table; no forward pass."""

    streams = True

    class Options(Section):
        """The table's size and the strength of its fit."""

        rank: int = Field(default=64, ge=1, le=65_536)
        """Rank of the table; its size in memory counts against ECR on the board."""
        ridge: float = Field(default=1.0, gt=0, le=1e9)
        """Strength of the L2 penalty."""

    options: Options

    def fit(
        self,
        token_ids: Sequence[Sequence[int]],
        targets: torch.Tensor | Centred,
        vocab_size: int,
        encoder: PreTrainedModel | None,
        seed: int,
    ) -> Projection:
        from ecr_bench.ecr.projection_table import TokenTable

        return TokenTable.fit(token_ids, targets, vocab_size, self.options.rank, self.options.ridge)

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any]) -> Projection:
        from ecr_bench.ecr.projection_table import TokenTable

        return TokenTable.load(folder, meta)


class _OfModel(ProjectionKind):
    """What maps of a hidden state share."""

    reads_model = True

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any]) -> Projection:
        from ecr_bench.ecr.projection_hidden import HiddenProjection

        return HiddenProjection.load(folder, meta)


class HiddenKind(_OfModel):
    """Affine map of a mean-pooled hidden state of the frozen base model."""

    class Options(Section):
        """Which state, and the strength of the fit."""

        layer: int = Field(default=-1, ge=-1_001, le=1_000)
        """Which hidden state of the base model is pooled: 0 the embeddings, -1 the last."""
        ridge: float = Field(default=1.0, gt=0, le=1e9)
        """Strength of the L2 penalty."""

    options: Options

    def fit(
        self,
        token_ids: Sequence[Sequence[int]],
        targets: torch.Tensor,
        vocab_size: int,
        encoder: PreTrainedModel | None,
        seed: int,
    ) -> Projection:
        from ecr_bench.ecr.projection_hidden import HiddenProjection, fit_affine

        def fit(pooled: torch.Tensor) -> dict[str, torch.Tensor]:
            return fit_affine(pooled, targets, self.options.ridge)

        return HiddenProjection.fit(self.name, token_ids, targets, _model(self, encoder), self.options.layer, fit)


class MlpKind(_OfModel):
    """One hidden layer over the same pooled state."""

    class Options(Section):
        """Which state, and the width of the layer."""

        layer: int = Field(default=-1, ge=-1_001, le=1_000)
        """Which hidden state of the base model is pooled: 0 the embeddings, -1 the last."""
        width: int = Field(default=256, ge=1, le=65_536)
        """Width of the one hidden layer."""

    options: Options

    def fit(
        self,
        token_ids: Sequence[Sequence[int]],
        targets: torch.Tensor,
        vocab_size: int,
        encoder: PreTrainedModel | None,
        seed: int,
    ) -> Projection:
        from ecr_bench.ecr.projection_hidden import HiddenProjection, fit_mlp

        def fit(pooled: torch.Tensor) -> dict[str, torch.Tensor]:
            return fit_mlp(pooled, targets, self.options.width, seed)

        return HiddenProjection.fit(self.name, token_ids, targets, _model(self, encoder), self.options.layer, fit)


def _model(kind: ProjectionKind, encoder: PreTrainedModel | None) -> PreTrainedModel:
    if encoder is None:
        raise UserError(f"projection.kind {kind.name!r} needs a base model; 'token-table' does not")
    return encoder
