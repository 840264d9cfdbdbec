"""Soft cues: the projected vector itself, fed in where ECR puts control tokens. What discreteness costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.ecr.projection import Projection, load_projection

FILE = "map.safetensors"


class SoftVectors:
    """A code source whose codes are handles of vectors.

    The vocabulary gets m placeholder rows and the null row. A cue seen for the c-th time (from 0) has the
    codes ``m + 1 + c m + i``, i < m, which lie beyond the vocabulary: truncation, packing and batching treat
    them as token ids like any others, and two cues never share one. At the model's embedding (``attach``)
    a handle becomes ``E[placeholder i] + map_i(v)``: v is the cue's projection at unit length, and ``map``
    a linear map (d -> m * hidden) that is trained with the model and starts at zero. An empty cue has the
    null token, as in ECR.
    """

    kind = "soft"
    deployable = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, projection: Projection, count: int, map: torch.nn.Linear):
        self.tokenizer, self.projection, self.count, self.map = tokenizer, projection, count, map
        self.known: dict[str, int] = {}
        self.vectors = torch.empty(0, projection.dim)
        self.side_parameters = projection.parameters + map.weight.numel()
        self.side_bytes = projection.bytes + map.weight.numel() * map.weight.element_size()

    @classmethod
    def create(
        cls, tokenizer: PreTrainedTokenizerBase, projection: Projection, count: int, hidden_size: int
    ) -> SoftVectors:
        """An untrained one: every cue gives the placeholders' embeddings until ``map`` has learnt."""
        linear = torch.nn.Linear(projection.dim, count * hidden_size, bias=False)
        torch.nn.init.zeros_(linear.weight)
        return cls(tokenizer, projection, count, linear)

    def __call__(self, cues: Sequence[str], langs: Sequence[str]) -> torch.Tensor:
        """Handles (B, m) int64, never below m + 1."""
        new = [cue for cue in dict.fromkeys(cues) if cue not in self.known]
        if new:
            ids = self.tokenizer(new, add_special_tokens=False)["input_ids"]
            self.known.update(zip(new, range(len(self.known), len(self.known) + len(new)), strict=True))
            self.vectors = torch.cat([self.vectors, normalize(self.projection(ids), dim=-1)])
        rows = torch.tensor([self.known[cue] for cue in cues], dtype=torch.int64)
        return self.count + 1 + rows[:, None] * self.count + torch.arange(self.count)

    def attach(self, model: PreTrainedModel, first_id: int) -> None:
        """Make ``model``'s input embedding understand handles. ``first_id`` is the first placeholder's id.

        Nothing is written into the model: two forward hooks, which ``save_pretrained`` does not keep. A
        second call on the same model replaces those of the first.
        """
        embedding = model.get_input_embeddings()
        for hook in getattr(embedding, "soft_cue_hooks", ()):
            hook.remove()
        self.map.to(model.device)
        first_handle = first_id + self.count + 1
        handles: list[torch.Tensor] = []

        def before(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            offset = args[0] - first_handle
            handles[:] = [offset]
            return (torch.where(offset >= 0, first_id + offset % self.count, args[0]), *args[1:])

        def after(_: torch.nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            offset = handles.pop()
            is_handle = offset >= 0
            if not is_handle.any():
                return output
            added = torch.zeros_like(output)
            added[is_handle] = self._embed(offset[is_handle]).to(output.dtype)
            return output + added

        # a plain attribute: hooks are no part of the module's state
        embedding.soft_cue_hooks = (  # type: ignore[assignment]
            embedding.register_forward_pre_hook(before),
            embedding.register_forward_hook(after),
        )

    def _embed(self, offset: torch.Tensor) -> torch.Tensor:
        """(H,) handles counted from the first -> (H, hidden)."""
        rows, inverse = (offset // self.count).unique(return_inverse=True)
        vectors = self.vectors[rows.cpu()].to(self.map.weight.device)
        mapped = self.map(vectors).view(len(rows), self.count, -1)
        return mapped[inverse, offset % self.count]

    def save(self, folder: Path) -> dict[str, Any]:
        self.projection.save(folder / "projection")
        save_file({"weight": self.map.weight.detach().cpu().contiguous()}, folder / FILE)
        return {"count": self.count}

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> SoftVectors:
        projection = load_projection(folder / "projection")
        weight = load_file(folder / FILE)["weight"]
        source = cls.create(tokenizer, projection, meta["count"], len(weight) // meta["count"])
        source.load_map(folder)
        source.map.requires_grad_(False)
        return source

    def load_map(self, folder: Path) -> None:
        """Take over the map of the one that was saved in ``folder``."""
        self.map.weight.data.copy_(load_file(folder / FILE)["weight"])
