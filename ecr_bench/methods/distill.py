"""Logit distillation from a larger plain model: the rival a smaller model is usually given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ecr_bench.config import DistillConfig
from ecr_bench.data.module import collate
from ecr_bench.methods.base import Method, Training, labelled, position_weights, token_losses
from ecr_bench.methods.ecr import Ecr
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.losses import Sparse, distillation_losses
from ecr_bench.methods.teacher_logits import LogitCache, cache_identity, load_teacher, plain_rows


def teacher_folder(settings: DistillConfig, folders: Any) -> Path:
    """Model folder of the teacher: ``distill.model``, else the trained cell the plan put in ``larger``."""
    return Path(settings.model) if settings.model else folders["larger"] / "model"


class _Distilled(Method):
    """Adds (1 - w) CE + w τ² D(teacher, student) to a method, at the answer tokens CE uses (``losses``), both averaged
    as ``finetune.loss`` says: over positions, or over rows first.

    Only the training loss differs; validation and scoring are those of the method it is mixed into.
    """

    uses_larger = True
    sections = ("distill",)

    def prepare(self, training: Training) -> None:
        self.settings = DistillConfig(**training.settings["distill"])
        tokenizer = training.given.tokenizer
        self.vocabulary, self.pad_id = len(tokenizer), tokenizer.pad_token_id
        self.rows = plain_rows(tokenizer, training.items, training.texts, training.window)
        folder = teacher_folder(self.settings, training.folders)
        if self.settings.cache_top_k is None:
            self.teacher = load_teacher(folder, tokenizer, training.window)
        else:
            identity = cache_identity(folder, self.rows, self.settings, training.seed)
            self.cache = LogitCache.load(training.folders["logits"], identity)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        ours = labelled(self.model, batch)
        labels = ours.labels
        teacher = self._teacher(batch["rows"], labels)
        weights = position_weights(batch["labels"], self.optimiser.loss == "row")
        mix = self.settings.weight

        def terms(logits: torch.Tensor, at: slice) -> torch.Tensor:
            plain = token_losses(logits, labels[at])
            distilled = distillation_losses(logits, teacher(at), self.settings, self.vocabulary)
            return torch.stack([(1 - mix) * plain + mix * distilled, plain, distilled]) @ weights[at]

        total, parts = ours.loss(terms)
        self.log("train/ce", parts[1])
        self.log("train/distill", parts[2])
        return total

    def _teacher(self, rows: torch.Tensor, labels: torch.Tensor) -> Callable[[slice], torch.Tensor | Sparse]:
        """What the teacher says at a slice of the positions of ``labels`` (N,): logits or kept probabilities."""
        if self.settings.cache_top_k is not None:
            found, sparse = self.cache.take(rows)
            _check_alignment(found.to(labels.device), labels)
            kept = {name: value.to(labels.device) for name, value in vars(sparse).items() if value is not None}
            return lambda at: Sparse(**{name: value[at] for name, value in kept.items()})
        batch = collate([self.rows[row] for row in rows.tolist()], self.pad_id)
        with torch.no_grad():
            theirs = labelled(self.teacher, {k: v.to(labels.device) for k, v in batch.items()})
        _check_alignment(theirs.labels, labels)
        return torch.no_grad()(theirs.logits)


def _check_alignment(theirs: torch.Tensor, ours: torch.Tensor) -> None:
    if not torch.equal(theirs, ours):
        raise RuntimeError("teacher and student are not at the same answer tokens")


class Distill(_Distilled, Finetune):
    """Logit distillation from the larger plain model; no control tokens, no larger model at test time."""


class EcrDistill(_Distilled, Ecr):
    """ECR and logit distillation together: control tokens in the prompt, the larger model in the loss."""
