"""What all arms share: a causal LM trained with ordinary cross-entropy, and how it is conditioned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.arm import Role
from ecr_bench.config import ControlTokensConfig, Experiment, OptimiserConfig, TeacherConfig
from ecr_bench.data.cutting import TextRow
from ecr_bench.data.encode import Example
from ecr_bench.data.module import IGNORED, Variation
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.codes import CodeSource
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.projection import Projection
from ecr_bench.methods.chunked import Terms, chunked_loss
from ecr_bench.methods.logits import AfterHead, after_head
from ecr_bench.methods.optimisers import create_optimiser
from ecr_bench.methods.unpadded import first_places, goes_unpadded, kept_states, needed_lengths, padded_states
from ecr_bench.types import Item


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


Encode = Callable[[Conditioner], Sequence[Example]]
"""Encodes a fixed list of rows under a conditioner, in their order."""


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
        """Scalar training loss of one batch; methods with another objective override this."""
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


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its codes from. The anchor fields are None unless ``uses_anchors``."""

    tokenizer: PreTrainedTokenizerBase
    control_tokens: ControlTokensConfig
    languages: tuple[str, ...]
    k: int
    levels: int
    hidden_size: int
    """Width of the base model's embeddings."""
    anchors: Anchors | None = None
    projection: Projection | None = None
    pool: torch.Tensor | None = None
    """Codes (P, m) int64 of training texts, for the ``shuffled`` control."""
    teacher: TeacherConfig | None = None


@dataclass(frozen=True)
class Training:
    """What a method that learns from more than the batch may look at before training."""

    given: Ingredients
    conditioner: Conditioner
    items: Sequence[Item]
    texts: Sequence[TextRow]
    """Training rows before encoding, items first: ``batch["rows"]`` indexes items + texts."""
    window: int
    """The model's context in tokens."""
    seed: int
    settings: Mapping[str, Any]
    """The ``sections`` asked for."""
    folders: Mapping[str, Path]
    """Folders of the stages this one builds on, by role."""


class Method(CausalLMModule):
    """An arm of the benchmark. Subclass, give ``source``, register: that is a new method.

    The first line of the docstring is what ``ecr-bench methods`` prints.
    """

    role: ClassVar[Role] = Role.CONTENDER
    """The part it plays in a comparison. Not inherited: a variant is a contender unless it says otherwise."""
    uses_control_tokens: ClassVar[bool] = True
    """Whether the control-token settings can change this method's result."""
    uses_anchors: ClassVar[bool] = False
    """Whether the anchor stage must run before this method."""
    uses_teacher: ClassVar[bool] = False
    """Whether the teacher is asked in training and at test time (which rules out deployment)."""
    drop_cue: ClassVar[bool] = False
    """Whether the text is hidden from the model (codes only)."""
    uses_larger: ClassVar[bool] = False
    """Whether a larger plain model must be trained first (``distill.size``), to learn from."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Sections of the experiment that only this method reads; ``prepare`` gets them."""
    precisions: ClassVar[tuple[str, ...]] = ()
    """Precisions this method is scored at; empty for those of the experiment."""
    base_precision: ClassVar[str | None] = None
    """Precision the base model is quantised to before training, if it is."""
    trains_model: ClassVar[bool] = True
    """False for a probe, which has no language model (``methods.probe``)."""

    @classmethod
    def check(cls, experiment: Experiment) -> None:
        """Raise UserError for an experiment this method cannot be run in. Called before anything runs."""

    def prepare(self, training: Training) -> None:
        """Called once before training, for what needs more than the model and the batches."""

    def variation(self, encode: Encode) -> Variation | None:
        """How training rows vary between draws, if they do; ``encode`` gives all of them under a conditioner."""
        return None

    def validation_variation(self, encode: Encode) -> Variation | None:
        """The same for validation rows: for arms whose encoding moves during training."""
        return None

    @property
    def adapter_parameters(self) -> int:
        """Numbers trained and stored in addition to the base model's."""
        return 0

    def save_model(self, folder: Path) -> None:
        """Write the trained model so that ``folder`` can be scored."""
        self.model.save_pretrained(folder)

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
