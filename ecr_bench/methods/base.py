"""What all arms share: a causal LM trained with ordinary cross-entropy, and how it is conditioned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning as L
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.config import ControlTokensConfig, OptimiserConfig, TeacherConfig
from ecr_bench.data.module import IGNORED
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.codes import CodeSource
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.projection import Projection


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, T, d) of the model without its head, for right-padded ids (B, T)."""
    return model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state


def cross_entropy(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy in nats over the labelled positions; the head runs only there."""
    wanted = batch["labels"] != IGNORED
    states = hidden_states(model, batch["input_ids"])[wanted]
    head = model.get_output_embeddings()
    assert head is not None
    return torch.nn.functional.cross_entropy(head(states).float(), batch["labels"][wanted])


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

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar training loss of one batch; methods with another objective override this."""
        return cross_entropy(self.model, batch)

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

    def configure_optimizers(self) -> Any:
        settings = self.optimiser
        trained = [p for p in self.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.dim() >= 2]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            adamw, lambda step: learning_rate(step, settings.steps, settings.warmup)
        )
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "train/lr"}}


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its codes from. The anchor fields are None unless ``uses_anchors``."""

    tokenizer: PreTrainedTokenizerBase
    control_tokens: ControlTokensConfig
    languages: tuple[str, ...]
    k: int
    levels: int
    anchors: Anchors | None = None
    projection: Projection | None = None
    pool: torch.Tensor | None = None
    """Codes (P, m) int64 of training texts, for the ``shuffled`` control."""
    teacher: TeacherConfig | None = None


class Method(CausalLMModule):
    """An arm of the benchmark. Subclass, give ``source``, register: that is a new method.

    The first line of the docstring is what ``ecr-bench methods`` prints.
    """

    uses_control_tokens: ClassVar[bool] = True
    """Whether the control-token settings can change this method's result."""
    uses_anchors: ClassVar[bool] = False
    """Whether the anchor stage must run before this method."""
    uses_teacher: ClassVar[bool] = False
    """Whether the teacher is asked in training and at test time (which rules out deployment)."""
    drop_cue: ClassVar[bool] = False
    """Whether the text is hidden from the model (codes only)."""

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource | None:
        """Where this arm's codes come from; None for no control tokens."""
        raise NotImplementedError

    @classmethod
    def conditioner(cls, given: Ingredients) -> Conditioner:
        """The conditioner this arm is trained, scored and shipped with."""
        count = given.control_tokens.count
        source = cls.source(given) if count else None
        if source is None:
            return Conditioner(given.tokenizer, drop_cue=cls.drop_cue)
        tokens = ControlTokens(len(given.tokenizer), given.k, given.levels)
        return Conditioner(given.tokenizer, source, tokens, count, given.control_tokens.placement, cls.drop_cue)
