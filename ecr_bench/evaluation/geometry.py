"""How a finished cell turns sentences into vectors, for whatever compares vectors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import Projection
from ecr_bench.ecr.projection_hidden import HiddenProjection
from ecr_bench.evaluation.likelihood import negative_loglikelihoods
from ecr_bench.evaluation.pooled import pooled_states
from ecr_bench.methods.probe import Probe
from ecr_bench.precision.adapted import has_adapter, load_adapted
from ecr_bench.precision.dense import load_fp32
from ecr_bench.teachers.hidden import HiddenStates

Embed = Callable[[Sequence[str], Sequence[str]], torch.Tensor]
"""(texts, languages) -> (N, d) float32. Only the control that is told the language looks at it."""


@dataclass(frozen=True)
class Encoder:
    """A finished cell. ``layer`` is the hidden state that is pooled; None where there is no language model."""

    embed: Embed
    """As the cell is used: each text is its own cue and has its control tokens."""
    plain: Embed | None
    """The same model without any control token; None where that is the same, or leaves nothing to read."""
    layer: int | None
    model: PreTrainedModel | None = None
    nats: Callable[[Sequence[str]], torch.Tensor] | None = None
    """Texts -> (N,) float64 negative log-likelihood after null control tokens; None for a cell that reads no text."""
    codes: ProjectionCodes | None = None
    """Where an arm's codes come from, if from a projection."""


def open_encoder(folder: Path, layer: int, device: str, batch_tokens: int) -> Encoder:
    """The cell saved in ``folder``, in fp32 (a cell with an adapter: in the precision it was trained in).

    A probe has no language model: its vectors are its projections, and no layer is read.

    Raises UserError for a layer the model lacks, and for a folder without a model.
    """
    tokenizer = load_tokenizer(folder)
    if (folder / "probe.json").is_file():
        probe = Probe.load(folder, tokenizer)
        return Encoder(lambda texts, langs: probe.embed(texts), None, None)
    model = load_adapted(folder, device) if has_adapter(folder) else load_fp32(folder, device)
    conditioner = Conditioner.load(folder / "conditioner", tokenizer)
    conditioner.attach(model)
    bare = conditioner.count > 0 and not conditioner.drop_cue
    return Encoder(
        pooling(model, conditioner, layer, batch_tokens),
        pooling(model, Conditioner(tokenizer), layer, batch_tokens) if bare else None,
        layer,
        model,
        None if conditioner.drop_cue else likelihood(model, conditioner, batch_tokens),
        conditioner.source if isinstance(conditioner.source, ProjectionCodes) else None,
    )


def open_base(folder: Path, layer: int, device: str, batch_tokens: int) -> Embed:
    """The base model saved in ``folder`` as it was pre-trained: with control tokens only if it learned with them."""
    tokenizer, model = load_tokenizer(folder), load_fp32(folder, device)
    own = folder / "conditioner"
    conditioner = Conditioner.load(own, tokenizer) if own.is_dir() else Conditioner(tokenizer)
    conditioner.attach(model)
    return pooling(model, conditioner, layer, batch_tokens)


def pooling(model: PreTrainedModel, conditioner: Conditioner, layer: int, batch_tokens: int) -> Embed:
    return lambda texts, langs: pooled_states(model, conditioner, texts, langs, layer, batch_tokens)


def likelihood(
    model: PreTrainedModel, conditioner: Conditioner, batch_tokens: int
) -> Callable[[Sequence[str]], torch.Tensor]:
    return lambda texts: negative_loglikelihoods(model, conditioner, texts, batch_tokens)


def with_projection(source: ProjectionCodes, projection: Projection) -> ProjectionCodes:
    """The same anchors and number of codes behind another projection."""
    return ProjectionCodes(source.tokenizer, projection, source.anchors, source.count)


def on_trained_states(source: ProjectionCodes, model: PreTrainedModel) -> ProjectionCodes | None:
    """The same map read off the trained ``model``; None for a token table, which reads no hidden state."""
    projection = source.projection
    if not isinstance(projection, HiddenProjection):
        return None
    body: Any = copy.deepcopy(model.base_model)
    trained = HiddenStates(body, projection.meta["layer"])
    return with_projection(source, HiddenProjection(trained, projection.tensors, projection.meta))
