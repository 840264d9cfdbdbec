"""What all arms share: a causal LM trained with ordinary cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ecr_bench.data.module import IGNORED
from ecr_bench.methods.chunked import Terms, chunked_loss
from ecr_bench.methods.logits import AfterHead, after_head
from ecr_bench.methods.optimisers import create_optimiser
from ecr_bench.methods.unpadded import first_places, goes_unpadded, kept_states, needed_lengths, padded_states
from ecr_bench.sections import OptimiserConfig


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, T, d) of the model without its head, for right-padded ids (B, T)."""
    return _in_parts(model, partial(padded_states, model), input_ids)


def _in_parts(model: PreTrainedModel, states: Callable[..., torch.Tensor], *rows: torch.Tensor) -> torch.Tensor:
    """``states`` of tensors (B, ...), joined.

    With ``model.parts`` (``methods.models.fit_to_machine``) above 1, the rows go through in so many parts in
    training, each computed again in the backward pass: memory for one part, and gradients of the whole batch,
    whatever loss follows. (Averaging the losses of parts, the usual way, is exact only where each weighs the same.)
    """
    parts = int(getattr(model, "parts", 1))
    if parts == 1 or not torch.is_grad_enabled():
        return states(*rows)
    chunks = zip(*(tensor.tensor_split(min(parts, len(tensor))) for tensor in rows), strict=True)
    return torch.cat([checkpoint(states, *chunk, use_reentrant=False) for chunk in chunks])


def cross_entropy(
    model: PreTrainedModel,
    batch: dict[str, torch.Tensor],
    per_row: bool = False,
    logits: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Cross-entropy in nats over the labelled positions; the head runs only there.

    ``per_row`` False: mean over positions. True: mean over rows of the mean over a row's positions.
    ``logits``: what ``labelled_logits`` gave, where the caller has it already.
    """
    if logits is not None:
        return average(token_losses(*logits), batch["labels"], per_row)
    found, weights = labelled(model, batch), position_weights(batch["labels"], per_row)
    total, _ = found.loss(lambda scores, at: plain_loss(scores, found.labels[at], weights[at]))
    return total


def plain_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits (N, V) at labels (N,), weighted by (N,) and summed: one term, (1,)."""
    return (token_losses(logits, labels) @ weights)[None]


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (N,) in nats of logits (N, V) at labels (N,)."""
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def position_weights(labels: torch.Tensor, per_row: bool) -> torch.Tensor:
    """Weights (N,) float32 of the N labelled positions of labels (B, T), that make a sum the mean asked for."""
    if per_row:
        return row_weights(labels)
    count = int((labels != IGNORED).sum())
    return torch.full((count,), 1 / max(1, count), device=labels.device)


def average(losses: torch.Tensor, labels: torch.Tensor, per_row: bool) -> torch.Tensor:
    """Mean of the losses (N,) of the labelled positions of ``labels`` (B, T): over positions, or over rows first."""
    return losses @ position_weights(labels, per_row)


def row_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weights (N,) float32 of the N labelled positions of labels (B, T), row by row; each row's sum to 1 / B."""
    wanted = labels != IGNORED
    counts = wanted.sum(1, keepdim=True)
    rows = (counts > 0).sum()
    return (1.0 / (counts.clamp(min=1) * rows)).expand_as(wanted)[wanted]


@dataclass(frozen=True)
class Labelled:
    """What a model says at the N labelled positions of a batch, row by row.

    Attributes:
        states: hidden states (N, d), or, for a model that only knows its logits itself, logits (N, V).
        labels: (N,) int64.
        head: turns states into the output of the last layer.
        after: turns that into logits.
    """

    states: torch.Tensor
    labels: torch.Tensor
    head: torch.nn.Module
    after: AfterHead

    def logits(self, at: slice = slice(None)) -> torch.Tensor:
        """Logits (n, V) float32 of a slice of the positions."""
        return self.after(self.head(self.states[at]).float())

    def loss(self, terms: Terms) -> tuple[torch.Tensor, torch.Tensor]:
        """``chunked_loss`` of ``terms`` of the logits."""
        return chunked_loss(self.head, self.states, lambda output, at: terms(self.after(output), at))


def labelled(model: PreTrainedModel, batch: dict[str, torch.Tensor], states: torch.Tensor | None = None) -> Labelled:
    """The model's logits at the labelled positions, not computed yet where that can wait.

    The output layer runs on the states that count, if that gives the model's own logits (``methods.logits``); else
    the model's own forward runs on the whole batch. ``states``: hidden states (B, T, d) where the caller has them.
    """
    after = after_head(model)
    if after is not None:
        return Labelled(*labelled_states(model, batch, states), output_head(model), after)
    labels = batch["labels"]
    own = _in_parts(model, partial(_own_logits, model), batch["input_ids"], labels)
    return Labelled(own, labels[labels != IGNORED], torch.nn.Identity(), AfterHead())


def _own_logits(model: PreTrainedModel, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=input_ids, use_cache=False).logits
    return logits[labels != IGNORED]


def labelled_logits(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], states: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, V) float32 and labels (N,) of the N labelled positions, row by row; ``states`` as in ``labelled``."""
    found = labelled(model, batch, states)
    return found.logits(), found.labels


def labelled_states(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], states: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (N, d) and labels (N,) of the N labelled positions, row by row; ``states`` as in ``labelled``."""
    labels = batch["labels"]
    wanted = labels != IGNORED
    if states is not None:
        return states[wanted], labels[wanted]
    lengths = needed_lengths(labels)
    kept = first_places(lengths, labels.shape[1])
    unpadded = goes_unpadded(model, batch["input_ids"], lengths)
    found = _in_parts(model, partial(kept_states, model, unpadded=unpadded), batch["input_ids"], lengths)
    return found[wanted[kept]], labels[wanted]


def output_head(model: PreTrainedModel) -> torch.nn.Module:
    """The model's last layer; what the model makes of its output is ``methods.logits.after_head``."""
    head = model.get_output_embeddings()
    assert head is not None
    return head


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Factor in (0, 1]: linear warm-up over ``warmup * steps``, then a cosine down to 0.1."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))


class CausalLMModule(L.LightningModule):
    """A causal LM under cross-entropy. Logs ``train/loss``, ``train/grad_norm``, ``train/lr``, ``val/loss``."""

    def __init__(self, model: PreTrainedModel, optimiser: OptimiserConfig):
        super().__init__()
        self.model = model
        self.optimiser = optimiser

    def on_fit_start(self) -> None:
        """Dropout as the settings say, whoever loaded, wrapped or quantised the model before."""
        self.model.train(self.optimiser.dropout == "model")

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar training loss of one batch."""
        return self.cross_entropy(batch)

    def cross_entropy(
        self, batch: dict[str, torch.Tensor], logits: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Cross-entropy averaged as the configuration says; the same for every arm."""
        return cross_entropy(self.model, batch, self.optimiser.loss == "row", logits)

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        loss = cross_entropy(self.model, batch)
        self.log("val/loss", loss, batch_size=int((batch["labels"] != IGNORED).sum()))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        settings = self.optimiser
        optimiser = create_optimiser(self, settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate(step, settings.steps, settings.warmup)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
