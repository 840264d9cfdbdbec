"""How a probe's and a language model's scores of the options are weighed against each other, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.io import atomic_dir
from ecr_bench.methods.method import Training
from ecr_bench.methods.option_scores import option_scores
from ecr_bench.methods.probe import Probe, fit_probe
from ecr_bench.types import Item

FILE = "fusion.safetensors"


@dataclass(frozen=True)
class Fused:
    """a log p(option) + b log p_probe(option), with a, b >= 0 of each task."""

    probe: Probe
    weights: Mapping[str, torch.Tensor]
    """Task -> (2,) float64: a and b. A task without validation items has the mean of the others."""

    @property
    def parameters(self) -> int:
        return self.probe.parameters + 2 * len(self.weights)

    @property
    def bytes(self) -> int:
        return self.probe.bytes + 16 * len(self.weights)

    @classmethod
    def fit(cls, model: PreTrainedModel, training: Training) -> Fused:
        """Fit the probe on the training items, and the weights on the held-out ones."""
        given, held_out = training.given, list(training.held_out)
        assert given.projection is not None
        probe, _ = fit_probe(given.tokenizer, given.projection, training.items, held_out)
        model_scores = option_scores(model, training.conditioner, held_out, training.window)
        weights = {}
        for task in dict.fromkeys(item.task for item in held_out):
            chosen = [index for index, item in enumerate(held_out) if item.task == task]
            items = [held_out[index] for index in chosen]
            ours = [model_scores[index] for index in chosen]
            theirs = [_by_probe(probe, item) for item in items]
            weights[task] = pooling_weights(ours, theirs, [item.gold for item in items])
        return cls(probe, weights)

    def scores(self, task: str, text: str, options: Sequence[str], model_scores: Sequence[float]) -> list[float]:
        """What each option of an item scores, from what the language model gives them (nats)."""
        own = self.weights.get(task)
        a, b = (torch.stack(list(self.weights.values())).mean(0) if own is None else own).tolist()
        by_probe = self.probe.log_probabilities(task, text, options)
        return [a * ours + b * theirs for ours, theirs in zip(model_scores, by_probe, strict=True)]

    def save(self, folder: Path) -> None:
        """Write the probe and the weights, atomically."""
        with atomic_dir(folder) as temporary:
            self.probe.save(temporary / "probe")
            save_file(dict(self.weights), temporary / FILE)

    @classmethod
    def load(cls, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Fused:
        """Read what ``save`` wrote."""
        return cls(Probe.load(folder / "probe", tokenizer), load_file(folder / FILE))


def _by_probe(probe: Probe, item: Item) -> torch.Tensor:
    return torch.tensor(probe.log_probabilities(item.task, item.text, item.choices), dtype=torch.float64)


def pooling_weights(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], gold: Sequence[int]) -> torch.Tensor:
    """(2,) float64, none below 0, of the least cross-entropy of ``gold`` under softmax(a ours + b theirs).

    Args:
        ours, theirs: scores (O,) of the options of each item; items may have different numbers of options.
        gold: index of each item's right option.
    """
    both = [torch.stack([a.double(), b.double()], -1) for a, b in zip(ours, theirs, strict=True)]
    padded = pad_sequence(both, batch_first=True)
    lengths = torch.tensor([len(scores) for scores in both])
    absent = torch.arange(padded.shape[1]) >= lengths[:, None]
    right = torch.tensor(gold)
    roots = torch.ones(2, dtype=torch.float64, requires_grad=True)  # squared: a, b >= 0
    solver = torch.optim.LBFGS([roots], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = cross_entropy((padded @ roots.square()).masked_fill(absent, -torch.inf), right)
        loss.backward()
        return loss

    solver.step(closure)
    return roots.detach().square()
