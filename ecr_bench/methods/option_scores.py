"""Log-likelihoods of the options of labelled items, from the model that is being trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ecr_bench.data.encode import Example, ask
from ecr_bench.data.joint import encode_questions
from ecr_bench.data.module import collate
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.fast.labelled import labelled_logits
from ecr_bench.methods.base import token_losses
from ecr_bench.types import Item

BATCH = 256
"""Options in one forward."""


@torch.no_grad()
def option_scores(
    model: PreTrainedModel, conditioner: Conditioner, items: Sequence[Item], window: int
) -> list[torch.Tensor]:
    """Log-likelihood in nats, (O,) float64, of each item's options after its prompt."""
    encoded = encode_questions(conditioner, ask(items), window)
    rows = [Example([*q.context.ids, *ids], len(q.context.ids), 0) for q in encoded for ids in q.continuations]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    scores = torch.zeros(len(rows), dtype=torch.float64)
    was_training = model.training
    model.eval()
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        batch = collate([rows[index] for index in chosen], 0)
        losses = token_losses(*labelled_logits(model, {k: v.to(model.device) for k, v in batch.items()}))
        lengths = [len(rows[index].ids) - rows[index].loss_from for index in chosen]
        scores[chosen] = -torch.stack([part.sum() for part in losses.double().cpu().split(lengths)])
    model.train(was_training)
    return list(scores.split([len(question.continuations) for question in encoded]))
