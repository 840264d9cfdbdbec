"""Logit distillation from a larger plain model: the rival a smaller model is usually given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ecr_bench.config import DistillConfig
from ecr_bench.data.module import collate
from ecr_bench.methods.base import Method, Training, labelled_logits
from ecr_bench.methods.ecr import Ecr
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.losses import Sparse, distillation_loss
from ecr_bench.methods.teacher_logits import LogitCache, cache_identity, load_teacher, plain_rows


def teacher_folder(settings: DistillConfig, folders: Any) -> Path:
    """Model folder of the teacher: ``distill.model``, else the trained cell the plan put in ``larger``."""
    return Path(settings.model) if settings.model else folders["larger"] / "model"


class _Distilled(Method):
    """Adds (1 - w) CE + w τ² D(teacher, student) to a method, at the answer tokens CE uses (``losses``).

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
        logits, labels = labelled_logits(self.model, batch)
        teacher = self._teacher(batch["rows"], labels)
        distilled = distillation_loss(logits, teacher, self.settings, self.vocabulary)
        plain = self.cross_entropy(batch, (logits, labels))
        self.log("train/ce", plain.detach())
        self.log("train/distill", distilled.detach())
        return (1 - self.settings.weight) * plain + self.settings.weight * distilled

    def _teacher(self, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | Sparse:
        """What the teacher says at the positions of ``labels`` (N,): logits (N, V) or kept probabilities."""
        if self.settings.cache_top_k is not None:
            found, sparse = self.cache.take(rows)
            _check_alignment(found.to(labels.device), labels)
            kept = {name: value.to(labels.device) for name, value in vars(sparse).items() if value is not None}
            return Sparse(**kept)
        batch = collate([self.rows[row] for row in rows.tolist()], self.pad_id)
        with torch.no_grad():
            logits, found = labelled_logits(self.teacher, {k: v.to(labels.device) for k, v in batch.items()})
        _check_alignment(found, labels)
        return logits


def _check_alignment(theirs: torch.Tensor, ours: torch.Tensor) -> None:
    if not torch.equal(theirs, ours):
        raise RuntimeError("teacher and student are not at the same answer tokens")


class Distill(_Distilled, Finetune):
    """Logit distillation from the larger plain model; no control tokens, no larger model at test time."""


class EcrDistill(_Distilled, Ecr):
    """ECR and logit distillation together: control tokens in the prompt, the larger model in the loss."""
