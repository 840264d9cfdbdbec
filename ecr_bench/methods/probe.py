"""The linear probe on projected embeddings that ``teacher-probe`` is, in place of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ecr_bench.ecr.projection import Projection, load_projection, project
from ecr_bench.io import atomic_dir, write_json
from ecr_bench.types import Item

PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Ridge strengths that are tried; the validation items choose, and on the corpora here never the first or the last."""
STEPS = 400
"""Of L-BFGS at most: it converges under each of them, so that rounding of the input does not show in the result."""
FILE = "probe.safetensors"


@dataclass(frozen=True)
class Embedded:
    """Items of one task as vectors: ``texts`` (N, r), ``options`` (N, O, r), ``real`` (N, O) bool, ``gold`` (N,).

    ``real`` marks options that exist, for items with fewer than O of them.
    """

    texts: torch.Tensor
    options: torch.Tensor
    real: torch.Tensor
    gold: torch.Tensor

    def scores(self, weights: torch.Tensor) -> torch.Tensor:
        """(N, O) scores t'Wo + b'o under ``weights`` (r + 1, r), W above b; -inf where there is no option."""
        queries = self.texts @ weights[:-1] + weights[-1]
        return torch.einsum("nr,nor->no", queries, self.options).masked_fill(~self.real, -torch.inf)


@dataclass
class Probe:
    """One bilinear classifier per task on the space the projection really uses.

    score(text, option) = t'Wo + b'o, where t and o are the projections of text and option at unit length
    in an orthonormal ``basis`` (r, d) of the training texts' projections. W starts at the identity, so that
    a task without labelled rows (or an infinite ridge) is scored by the cosine.
    """

    tokenizer: PreTrainedTokenizerBase
    projection: Projection
    basis: torch.Tensor
    weights: dict[str, torch.Tensor]

    @property
    def parameters(self) -> int:
        return self.basis.numel() + sum(weight.numel() for weight in self.weights.values())

    @property
    def bytes(self) -> int:
        return 4 * self.parameters

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, r) float32 of unit length, or zero where the projection knows no token of a text."""
        return _project(self.tokenizer, self.projection, texts) @ self.basis.T

    def prepare(self, items: Sequence[Item]) -> Embedded:
        """Vectors of items of one task; an option is embedded as the model would read it, but for the space."""
        places = {text: row for row, text in enumerate(dict.fromkeys(text for item in items for text in item.choices))}
        vectors = self.embed(list(places))  # each once: labels are few, and a call a text takes most of the time
        options = [vectors[[places[text] for text in item.choices]] for item in items]
        padded = pad_sequence(options, batch_first=True)
        lengths = torch.tensor([len(item.choices) for item in items])
        real = torch.arange(padded.shape[1]) < lengths[:, None]
        return Embedded(self.embed([item.text for item in items]), padded, real, torch.tensor([i.gold for i in items]))

    def log_probabilities(self, task: str, text: str, options: Sequence[str]) -> list[float]:
        """Log-probability in nats of each option, over the options."""
        embedded = self.embed([text, *options])
        real, gold = torch.ones(1, len(options), dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
        batch = Embedded(embedded[:1], embedded[None, 1:], real, gold)
        weights = self.weights.get(task, _cosine(len(self.basis)))
        values: list[float] = batch.scores(weights)[0].double().log_softmax(-1).tolist()
        return values

    def save(self, folder: Path) -> None:
        """Write weights, projection and tokenizer, atomically."""
        with atomic_dir(folder) as temporary:
            tensors = {"basis": self.basis, **{f"weights/{task}": weight for task, weight in self.weights.items()}}
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / FILE)
            self.projection.save(temporary / "projection")
            self.tokenizer.save_pretrained(temporary)
            write_json(temporary / "probe.json", {"tasks": sorted(self.weights)})

    @classmethod
    def load(cls, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Probe:
        """Read what ``save`` wrote."""
        tensors = load_file(folder / FILE)
        basis = tensors.pop("basis")
        weights = {name.removeprefix("weights/"): tensor for name, tensor in tensors.items()}
        return cls(tokenizer, load_projection(folder / "projection"), basis, weights)


def fit_probe(
    tokenizer: PreTrainedTokenizerBase,
    projection: Projection,
    training: Sequence[Item],
    validation: Sequence[Item],
) -> tuple[Probe, dict[str, Any]]:
    """Fit one classifier per task by ridge-penalised cross-entropy over an item's options (L-BFGS).

    Returns the probe and, by task, the chosen ``penalty``, whether it is ``at_edge`` of those tried, ``train_loss`` and
    ``val_loss`` (nats per item; without validation items of a task, the training loss chooses).
    """
    texts = list(dict.fromkeys(item.text for item in training))
    probe = Probe(tokenizer, projection, _basis(_project(tokenizer, projection, texts)), {})
    stats: dict[str, Any] = {}
    for task in dict.fromkeys(item.task for item in training):
        train = probe.prepare([item for item in training if item.task == task])
        held_out = [item for item in validation if item.task == task]
        judge = probe.prepare(held_out) if held_out else train
        weights = _cosine(len(probe.basis))
        fits = []
        for penalty in PENALTIES:
            weights = _fit(train, penalty, weights)
            losses = [float(cross_entropy(part.scores(weights), part.gold)) for part in (judge, train)]
            fits.append((losses[0], losses[1], penalty, weights))
        val_loss, train_loss, penalty, probe.weights[task] = min(fits, key=lambda fit: fit[0])
        at_edge = penalty in (PENALTIES[0], PENALTIES[-1])
        stats[task] = {"penalty": penalty, "at_edge": at_edge, "train_loss": train_loss, "val_loss": val_loss}
    return probe, stats


def _project(tokenizer: PreTrainedTokenizerBase, projection: Projection, texts: Sequence[str]) -> torch.Tensor:
    return normalize(project(projection, tokenizer, texts), dim=-1)


def _basis(vectors: torch.Tensor) -> torch.Tensor:
    """(r, d) orthonormal rows that span ``vectors`` (N, d) up to rounding, from the eigenvectors of their moments."""
    moments = vectors.double().T @ vectors.double()
    values, directions = torch.linalg.eigh(moments)
    return directions[:, values > 1e-6 * values[-1]].T.flip(0).float()


def _cosine(rank: int) -> torch.Tensor:
    """Weights that score by the cosine: W the identity, b zero."""
    return torch.cat([torch.eye(rank), torch.zeros(1, rank)])


def _fit(data: Embedded, penalty: float, start: torch.Tensor) -> torch.Tensor:
    """Minimise cross-entropy + penalty ||weights - cosine||²; the start only saves steps (the problem is convex)."""
    prior = _cosine(data.texts.shape[1])
    weights = start.clone().requires_grad_(True)
    solver = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = cross_entropy(data.scores(weights), data.gold) + penalty * (weights - prior).square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weights.detach()
