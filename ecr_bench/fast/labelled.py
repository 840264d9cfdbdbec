"""What a model says at the labelled positions of a batch: the output layer runs there alone.

The plain twin is the model's own forward over the whole batch, of whose logits those positions are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from ecr_bench.data.module import IGNORED
from ecr_bench.fast.after_head import AfterHead, after_head
from ecr_bench.fast.chunked import Terms, chunked_loss
from ecr_bench.fast.parts import in_parts
from ecr_bench.fast.switch import plain


@dataclass(frozen=True)
class Labelled:
    """What a model says at the N labelled positions of a batch, row by row.

    Attributes:
        states: hidden states (N, d), or, where the model's own forward ran, logits (N, V).
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


def measure_whole(model: PreTrainedModel) -> None:
    """Find out now what ``labelled`` has to know of a model whose weights will be shared among devices later."""
    if not plain():
        after_head(model)


def labelled(model: PreTrainedModel, batch: dict[str, torch.Tensor], states: torch.Tensor | None = None) -> Labelled:
    """The model's logits at the labelled positions, not computed yet where that can wait.

    The output layer runs on the states that count, if that gives the model's own logits (``fast.after_head``); else
    the model's own forward runs on the whole batch. ``states``: hidden states (B, T, d) where the caller has them.
    """
    labels = batch["labels"]
    wanted = labels != IGNORED
    after = None if plain() else after_head(model)
    if after is None:
        own = in_parts(model, partial(_own_logits, model), batch["input_ids"], labels)
        return Labelled(own, labels[wanted], torch.nn.Identity(), AfterHead())
    if states is None:
        states = hidden_states(model, batch["input_ids"])
    return Labelled(states[wanted], labels[wanted], output_head(model), after)


def labelled_logits(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], states: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, V) float32 and labels (N,) of the N labelled positions, row by row; ``states`` as in ``labelled``."""
    found = labelled(model, batch, states)
    return found.logits(), found.labels


def _own_logits(model: PreTrainedModel, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=input_ids, use_cache=False).logits
    return logits[labels != IGNORED]


def hidden_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, T, d) of the model without its head, for right-padded ids (B, T)."""
    return in_parts(model, partial(_states, model), input_ids)


def _states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    states: torch.Tensor = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return states


def output_head(model: PreTrainedModel) -> torch.nn.Module:
    """The model's last layer; what the model makes of its output is ``fast.after_head``."""
    head = model.get_output_embeddings()
    assert head is not None
    return head
