"""Logit distillation from a larger plain model: the rival a smaller model is usually given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializationInfo, field_serializer, model_validator

from ecr_bench.methods.method import Modifier, Training
from ecr_bench.outside import as_identity, model_counts
from ecr_bench.reading import user_path
from ecr_bench.section import Section

if TYPE_CHECKING:
    import torch

    from ecr_bench.methods.losses import Sparse
    from ecr_bench.methods.module import ArmModule

IN_PRETRAINING: dict[str, Any] = {"model": None, "cache_top_k": None, "tail": "rest"}
"""Options that ``pretrain.distill`` leaves no choice: it names the size, and asks as it trains, since a cache of all
texts would ask for more than the steps see."""


class Distill(Modifier):
    """Logits of a larger plain model as a second target; no larger model at test time.

    Adds (1 - w) CE + w τ² D(teacher, student) at the answer tokens CE uses (``losses``), both averaged as
    ``finetune.loss`` says: over positions, or over rows first. Only the training loss differs; validation and scoring
    are those of the method.
    """

    class Options(Section):
        """Which larger model, how its distribution is compared with the student's, and what is kept of it."""

        size: str = "3x"
        """The teacher is the ``finetune`` cell of this size and the same seed; trained first if it is not there."""
        model: str | None = None
        """Folder of another model with the same tokenizer, to be the teacher instead."""
        divergence: Literal["forward-kl", "reverse-kl", "jsd"] = "forward-kl"
        """How the two distributions are compared (methods/losses.py)."""
        beta: float = Field(default=0.5, gt=0, lt=1)
        """``jsd``: near 0 it acts like forward KL, near 1 like reverse KL."""
        temperature: float = Field(default=2.0, gt=0, le=100)
        """Both sides' logits are divided by it; the loss is multiplied by its square."""
        weight: float = Field(default=0.5, gt=0, le=1)
        """Share of the distillation loss; the rest is cross-entropy."""
        cache_top_k: int | None = Field(default=None, ge=1, le=1_000_000)
        """Ask the teacher once and keep this many token probabilities a position; null: ask in every step."""
        tail: Literal["rest", "drop", "sample"] = "rest"
        """Probability outside the kept ids: one outcome of its own, ignored, or unbiased draws instead of the top k."""

        @field_serializer("model")
        def _by_content(self, model: str | None, info: SerializationInfo) -> str | None:
            return model_counts(model) if model and as_identity(info) else model

        @model_validator(mode="after")
        def _sampling_is_unbiased(self) -> Distill.Options:
            if self.tail == "sample" and self.divergence != "forward-kl":
                raise ValueError(f"tail 'sample' is unbiased for forward-kl only, not for {self.divergence}")
            if self.tail == "sample" and self.cache_top_k is None:
                raise ValueError("tail 'sample' needs cache_top_k, the number of draws")
            return self

    options: Options
    adds_up = True

    @property
    def larger(self) -> Distill.Options:
        return self.options

    def prepare(self, module: ArmModule, training: Training) -> None:
        from ecr_bench.methods.teacher_logits import LogitCache, cache_identity, load_teacher, plain_rows

        tokenizer = training.given.tokenizer
        self.vocabulary, self.pad_id = len(tokenizer), tokenizer.pad_token_id
        self.rows = plain_rows(tokenizer, training.items, training.texts, training.window)
        folder = teacher_folder(self.options, training.folders)
        if self.options.cache_top_k is None:
            self.teacher = load_teacher(folder, tokenizer, training.window)
            module.teacher = self.teacher  # registered here, it is moved with the model
        else:
            identity = cache_identity(folder, self.rows, self.options, training.seed)
            self.cache = LogitCache.load(training.folders["logits"], identity)

    def loss(self, module: ArmModule, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch

        from ecr_bench.fast.labelled import labelled
        from ecr_bench.methods.base import position_weights, token_losses
        from ecr_bench.methods.losses import distillation_losses

        ours = labelled(module.model, batch)
        labels = ours.labels
        teacher = self._teacher(batch["rows"], labels)
        weights = position_weights(batch["labels"], module.optimiser.loss == "row")
        mix = self.options.weight

        def terms(logits: torch.Tensor, at: slice) -> torch.Tensor:
            plain = token_losses(logits, labels[at])
            distilled = distillation_losses(logits, teacher(at), self.options, self.vocabulary)
            return torch.stack([(1 - mix) * plain + mix * distilled, plain, distilled]) @ weights[at]

        total, parts = ours.loss(terms)
        module.log_sum("train/ce", parts[1])
        module.log_sum("train/distill", parts[2])
        return total

    def _teacher(self, rows: torch.Tensor, labels: torch.Tensor) -> Callable[[slice], torch.Tensor | Sparse]:
        """What the teacher says at a slice of the positions of ``labels`` (N,): logits or kept probabilities."""
        import torch

        from ecr_bench.data.module import collate
        from ecr_bench.fast.labelled import labelled
        from ecr_bench.methods.losses import Sparse

        if self.options.cache_top_k is not None:
            found, sparse = self.cache.take(rows)
            _check_alignment(found.to(labels.device), labels)
            kept = {name: value.to(labels.device) for name, value in vars(sparse).items() if value is not None}
            return lambda at: Sparse(**{name: value[at] for name, value in kept.items()})
        batch = collate([self.rows[row] for row in rows.tolist()], self.pad_id)
        with torch.no_grad():
            theirs = labelled(self.teacher, {k: v.to(labels.device) for k, v in batch.items()})
        _check_alignment(theirs.labels, labels)
        return torch.no_grad()(theirs.logits)


def teacher_folder(options: Distill.Options, folders: Mapping[str, Path]) -> Path:
    """Model folder of the teacher: ``options.model``, else the trained cell the plan put in ``larger``."""
    return user_path(options.model) if options.model else folders["larger"] / "model"


def _check_alignment(theirs: torch.Tensor, ours: torch.Tensor) -> None:
    if theirs.shape != ours.shape or not bool((theirs == ours).all()):
        raise RuntimeError("teacher and student are not at the same answer tokens")
