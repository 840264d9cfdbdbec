"""Projections ``hidden`` and ``mlp``: a map of a pooled hidden state of the frozen base model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cosine_similarity, gelu, normalize
from transformers import AutoModel, PreTrainedModel

from ecr_bench.divergence import check_finite, check_tensors
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, write_json
from ecr_bench.teachers.hidden import HiddenStates
from ecr_bench.weight_files import read_folder

FILE = "projection.safetensors"
EPOCHS, PATIENCE, BATCH, LEARNING_RATE, VALIDATION = 100, 8, 128, 1e-3, 0.1


class HiddenProjection:
    """Standardise the mean-pooled hidden state, map it (affine, or one GELU layer between), set the norm.

    BOS (the encoder's ``bos_token_id``) is read first where it exists, as in pre-training, but not
    pooled. Only the layers up to the one that is asked for are kept. The norm is the mean norm of the targets,
    so that vectors are comparable with the teacher's.
    """

    def __init__(self, encoder: HiddenStates, tensors: dict[str, torch.Tensor], meta: dict[str, Any]):
        self.encoder, self.tensors, self.meta = encoder, tensors, meta
        self.dim = tensors["bias"].shape[0]
        stored = [*tensors.values(), *encoder.model.state_dict().values()]
        self.parameters = sum(tensor.numel() for tensor in stored)
        self.bytes = sum(tensor.numel() * tensor.element_size() for tensor in stored)

    def __call__(self, token_ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Project B id lists to (B, d) float32; unknown ids are skipped, nothing known gives zeros."""
        rows = _readable(token_ids, self.encoder)
        empty = torch.tensor([len(row) <= _skip(self.encoder) for row in rows], dtype=torch.bool)
        with torch.no_grad():
            mapped = _apply(self.tensors, self.encoder(rows, skip=_skip(self.encoder)))
            mapped = normalize(mapped, dim=-1) * self.meta["norm"]
        return mapped.masked_fill(empty[:, None], 0.0)

    @classmethod
    def fit(
        cls,
        kind: str,
        token_ids: Sequence[Sequence[int]],
        targets: torch.Tensor,
        encoder: PreTrainedModel,
        layer: int,
        fit_map: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    ) -> HiddenProjection:
        """Fit on N rows; ``fit_map`` takes their standardised states (N, h) and gives the tensors of the map.

        ``kind``: as which it is saved.
        """
        states = _on_device(HiddenStates(_copy_of_base(encoder), layer))
        pooled = states(_readable(token_ids, states), skip=_skip(states))
        mean, std = pooled.mean(0), pooled.std(0, unbiased=False).clamp(min=1e-6)
        tensors = {"mean": mean, "std": std}
        x = (pooled - mean) / std
        fitted = fit_map(x)
        meta = {"kind": kind, "layer": states.layer, "layers": states.total}
        return cls(states, tensors | fitted, meta | {"norm": float(targets.norm(dim=1).mean())})

    def save(self, folder: Path) -> None:
        """Write ``encoder/`` (save_pretrained), ``projection.safetensors`` and ``projection.json``, atomically."""
        with atomic_dir(folder) as temporary:
            self.encoder.model.save_pretrained(temporary / "encoder")
            save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, temporary / FILE)
            write_json(temporary / "projection.json", self.meta)

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any]) -> HiddenProjection:
        """Read what ``save`` wrote."""
        try:
            model = read_folder(AutoModel, folder / "encoder")
            states = HiddenStates(model, -1)
            states.layer, states.total = meta["layer"], meta["layers"]
            check_finite(model, str(folder / "encoder"))
            tensors = load_file(folder / FILE)
            check_tensors(tensors, folder / FILE)
            return cls(_on_device(states), tensors, meta)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{folder}: not a projection folder: {' '.join(str(error).split()):.160}") from error


def _copy_of_base(encoder: PreTrainedModel) -> Any:
    """The encoder without its language-model head."""
    return copy.deepcopy(encoder.base_model)


def _on_device(states: HiddenStates) -> HiddenStates:
    """Moved to the GPU where there is one; what it pools comes back on the CPU."""
    if torch.cuda.is_available():
        states.model.to("cuda")
    return states


def _bos(states: HiddenStates) -> list[int]:
    bos = getattr(states.config, "bos_token_id", None)
    return [bos] if isinstance(bos, int) and bos < states.config.vocab_size else []


def _skip(states: HiddenStates) -> int:
    return len(_bos(states))


def _readable(token_ids: Sequence[Sequence[int]], states: HiddenStates) -> list[list[int]]:
    """BOS and the known ids of each row, cut to the encoder's window."""
    bos, size = _bos(states), states.config.vocab_size
    return [[*bos, *(token for token in row if 0 <= token < size)][: states.max_length] for row in token_ids]


def _apply(tensors: dict[str, torch.Tensor], pooled: torch.Tensor) -> torch.Tensor:
    x = (pooled - tensors["mean"]) / tensors["std"]
    if "hidden" in tensors:
        x = gelu(x @ tensors["hidden"] + tensors["hidden_bias"])
    return x @ tensors["weight"] + tensors["bias"]


def fit_affine(x: torch.Tensor, targets: torch.Tensor, strength: float) -> dict[str, torch.Tensor]:
    """Ridge with a free intercept; ``x`` (N, h) has zero mean. In float64: h is small."""
    x, y = x.double(), targets.double()
    bias = y.mean(0)
    gram = x.T @ x + strength * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, x.T @ (y - bias))
    return {"weight": weight.float(), "bias": bias.float()}


def fit_mlp(x: torch.Tensor, targets: torch.Tensor, width: int, seed: int) -> dict[str, torch.Tensor]:
    """Best epoch, by cosine on a tenth of the rows, of at most 100."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    split = max(1, int(len(x) * VALIDATION)) if len(x) > 1 else 0
    held_out, train = order[:split] if split else order, order[split:]
    shapes = {"hidden": (x.shape[1], width), "weight": (width, targets.shape[1])}
    tensors = {name: torch.randn(shape, generator=generator) / shape[0] ** 0.5 for name, shape in shapes.items()}
    tensors |= {"hidden_bias": torch.zeros(width), "bias": torch.zeros(targets.shape[1])}
    standard = {"mean": torch.zeros(x.shape[1]), "std": torch.ones(x.shape[1])}
    parameters = {name: nn.Parameter(tensor) for name, tensor in tensors.items()}
    optimiser = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE)
    best, best_cosine, waited = tensors, -2.0, 0
    for _ in range(EPOCHS):
        for rows in train[torch.randperm(len(train), generator=generator)].split(BATCH):
            predicted = _apply({**standard, **parameters}, x[rows])
            loss = 1 - cosine_similarity(predicted, targets[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            cosine = float(cosine_similarity(_apply({**standard, **parameters}, x[held_out]), targets[held_out]).mean())
        if cosine > best_cosine + 1e-4:
            best = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            best_cosine, waited = cosine, 0
        else:
            waited += 1
            if waited >= PATIENCE:
                break
    return best
