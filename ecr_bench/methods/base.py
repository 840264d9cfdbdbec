"""What all arms share: a causal LM trained with ordinary cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from transformers import PreTrainedModel

from ecr_bench import ranks
from ecr_bench.data.module import IGNORED
from ecr_bench.fast.labelled import labelled
from ecr_bench.methods.optimisers import create_optimiser
from ecr_bench.sections import OptimiserConfig

GivenT = TypeVar("GivenT")


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
    """Weights (N,) float32 of the N labelled positions of labels (B, T), that make a sum the mean asked for.

    Where several devices share a batch (``ranks``), the mean is that of the whole of it: their sums add up.
    """
    if per_row:
        return row_weights(labels)
    labelled = (labels != IGNORED).sum()
    count = int(labelled)
    total = count if ranks.count() == 1 else int(ranks.summed(labelled))
    return torch.full((count,), 1 / max(1, total), device=labels.device)


def average(losses: torch.Tensor, labels: torch.Tensor, per_row: bool) -> torch.Tensor:
    """Mean of the losses (N,) of the labelled positions of ``labels`` (B, T): over positions, or over rows first."""
    return losses @ position_weights(labels, per_row)


def row_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weights (N,) float32 of the N labelled positions of labels (B, T), row by row; each row's sum to 1 / B.

    B counts the rows of all devices that share the batch.
    """
    wanted = labels != IGNORED
    counts = wanted.sum(1, keepdim=True)
    rows = ranks.summed((counts > 0).sum())
    return (1.0 / (counts.clamp(min=1) * rows)).expand_as(wanted)[wanted]


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

    def configure_model(self) -> None:
        """Called with the processes that train together: the strategy that asks for shares gets them."""
        from lightning.pytorch.strategies import ModelParallelStrategy

        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            from ecr_bench.methods.sharding import shard

            shard(self)

    def gathered(self, work: Callable[[], GivenT]) -> GivenT:
        """What ``work`` gives, which runs the model outside of a training step. All devices must ask for it."""
        return work()

    @property
    def resumable(self) -> bool:
        """Whether parameters, buffers and what ``keep`` writes are all that training changes."""
        return True

    def keep(self, folder: Path) -> None:
        """Write what training has changed beside parameters and buffers into ``folder``, which is not there yet."""

    def take_up(self, folder: Path) -> None:
        """Go on from what ``keep`` wrote; parameters are loaded after that."""

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar training loss of one batch."""
        return self.cross_entropy(batch)

    def cross_entropy(
        self, batch: dict[str, torch.Tensor], logits: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Cross-entropy averaged as the configuration says; the same for every arm."""
        return cross_entropy(self.model, batch, self.optimiser.loss == "row", logits)

    def log_sum(self, name: str, value: torch.Tensor) -> None:
        """Log a number that adds up over the devices that share a batch."""
        self.log(name, ranks.summed(value.detach()))

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log_sum("train/loss", loss)
        # each device has its part of a sum, and what averages their gradients divides by their number
        return loss if ranks.count() == 1 else loss * ranks.count()

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        loss = ranks.summed(cross_entropy(self.model, batch))
        self.log("val/loss", loss, batch_size=int(ranks.summed((batch["labels"] != IGNORED).sum())))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/grad_norm", ranks.whole(torch.nn.utils.get_total_norm(gradients)))
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By norm, as Lightning does it, which refuses a fused optimiser under autocast for a scaler we never use."""
        if gradient_clip_val:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def configure_optimizers(self) -> Any:
        settings = self.optimiser
        optimiser = create_optimiser(self, settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate(step, settings.steps, settings.warmup)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
