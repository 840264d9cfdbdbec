"""How large a model is and where it comes from: from scratch, or pretrained; the ``sizes`` of an experiment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    FieldSerializationInfo,
    Tag,
    field_serializer,
    field_validator,
    model_validator,
)

from ecr_bench.outside import as_identity, model_counts
from ecr_bench.section import Distinct, Filled, Section

STAGES = ("pretrain", "finetune")
"""Sections whose learning rate that of a size stands in place of, whatever sets it (``runner/grid.py``)."""
RATE = "learning_rate"
STAGES_OF: dict[str, tuple[str, ...]] = {
    "pretrained": (),
    "base": ("pretrain",),
    "finetuned": ("pretrain", "finetune"),
}
"""State of a size that is the teacher (``teacher.options.state``) -> the stages that bring it there."""


class Devices(Section):
    """How many devices train one cell of this size together: GPUs, or processes where there is none."""

    count: int = Field(default=1, ge=1, le=1_024)
    """Each takes its part of every batch; losses and gradients are those of the whole batch."""
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    """``ddp``: each has the whole model. ``fsdp2``: each keeps a share of weights, gradients and optimiser, and a
    training that was killed begins anew."""


class Fitting(Section):
    """What every size of model has: its window, its learning rate, and how its training fits the machine."""

    learning_rate: float | None = Field(default=None, gt=0, le=1e9)
    """Learning rate of both stages for this size, chosen on validation rows; null: that of the stage."""
    max_length: int = Field(default=192, ge=16, le=1_048_576)
    """Context window in tokens, control tokens included."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of training; weights, gradients and optimiser are float32 either way."""
    accumulate: int = Field(default=1, ge=1, le=1_000_000)
    """Parts a batch goes through the model in. Saves memory, costs a second forward pass, changes no gradient."""
    checkpointing: bool = False
    """Keep only the input of each layer for the backward pass. Saves memory, costs a second forward pass."""
    devices: Devices = Devices()
    """``count`` (1) and ``strategy`` (``ddp``) of the devices that train one cell together (docs/scale.md)."""


class SizeConfig(Fitting):
    """A Llama from scratch, pre-trained here on the unlabelled text."""

    hidden_size: int = Field(ge=8, le=131_072)
    layers: int = Field(ge=1, le=1_000)
    heads: int = Field(ge=1, le=1_024)
    intermediate_size: int = Field(ge=8, le=1_048_576)

    @model_validator(mode="after")
    def _heads_divide(self) -> SizeConfig:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 x heads ({2 * self.heads})")
        return self


class PretrainedSize(Fitting):
    """A causal LM that somebody has trained, with its own tokenizer; ``pretrain`` goes on from there."""

    model: str = Field(min_length=1)
    """Hub id, folder of a transformers model, or ``package:NAME`` (methods/packaged.py)."""

    revision: str = ""
    """Branch, tag or commit, for a hub id; empty: ``main``. The commit it is at counts, not its name."""

    layers: int | None = Field(default=None, ge=1, le=1_000)
    """Layers that are kept of the model's, chosen by ``layer_choice``; null: all."""
    keep_layers: Annotated[tuple[int, ...], Filled, Distinct] | None = None
    """Their numbers, from 0 and ascending, in place of ``layers``."""
    layer_choice: Literal["even", "ends", "greedy"] = "even"
    """``even``: at even distances; ``ends``: from both ends; ``greedy``: take out the layer without which the loss on
    validation text is least, again and again (methods/pruning.py)."""
    vocabulary: Literal["whole", "corpus"] = "whole"
    """``corpus``: only the tokens that the training text needs, and all bytes (data/vocabulary.py)."""

    @property
    def compressed(self) -> bool:
        """Whether anything is taken out of the model before it is trained here."""
        return self.layers is not None or self.keep_layers is not None or self.vocabulary == "corpus"

    @field_validator("keep_layers")
    @classmethod
    def _ascending(cls, kept: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if kept is not None and (min(kept) < 0 or list(kept) != sorted(kept)):
            raise ValueError("layers count from 0, and their numbers ascend")
        return kept

    @model_validator(mode="after")
    def _one_choice_of_layers(self) -> PretrainedSize:
        if self.layers is not None and self.keep_layers is not None:
            raise ValueError("give either layers or keep_layers")
        if self.layer_choice != "even" and self.layers is None:
            raise ValueError(f"layer_choice {self.layer_choice!r} needs layers, the number that is kept")
        return self

    @field_serializer("model", "revision")
    def _by_content(self, value: str, info: FieldSerializationInfo) -> str:
        if not as_identity(info):
            return value
        return model_counts(self.model, self.revision) if info.field_name == "model" else ""


SIZES: dict[Any, type[SizeConfig] | type[PretrainedSize]] = {
    "<from scratch>": SizeConfig,
    "<pretrained>": PretrainedSize,
}
"""Tag -> class of a size; pydantic puts the tags into the places of its errors, ``one_line`` takes them out."""


def _kind_of_size(value: Any) -> str:
    has_model = "model" in value if isinstance(value, dict) else isinstance(value, PretrainedSize)
    return "<pretrained>" if has_model else "<from scratch>"


Size = Annotated[
    Annotated[SizeConfig, Tag("<from scratch>")] | Annotated[PretrainedSize, Tag("<pretrained>")],
    Discriminator(_kind_of_size),
]


def size_config(raw: dict[str, Any]) -> SizeConfig | PretrainedSize:
    """The size a stage's specification holds."""
    return SIZES[_kind_of_size(raw)](**raw)
