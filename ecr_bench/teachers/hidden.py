"""Pooled hidden states of any transformers encoder or causal LM, at any layer, without the layers above it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ecr_bench.errors import UserError
from ecr_bench.teachers.base import PoolingKind


def resolve_layer(layer: int, layers: int) -> int:
    """Index of a hidden state in 0..layers (0: embeddings, layers: the last); negative counts from the end."""
    index = layer + layers + 1 if layer < 0 else layer
    if not 0 <= index <= layers:
        raise UserError(
            f"layer {layer} does not exist: allowed are {-layers - 1} to {layers} (0: embeddings, -1: last)"
        )
    return index


@torch.no_grad()
def pooled_at_all_layers(
    model: Any, token_ids: Sequence[Sequence[int]], skip: int = 0, batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Mean over the tokens of each row of every hidden state: (layers + 1, N, width) float32 on the CPU.

    ``model``: a transformers model without a head. The first ``skip`` positions are read but not pooled; rows with
    nothing to pool give zero vectors. As ``HiddenStates`` at each layer.
    """
    order = sorted((i for i, ids in enumerate(token_ids) if len(ids) > skip), key=lambda i: len(token_ids[i]))
    pooled: torch.Tensor | None = None
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        lengths = torch.tensor([len(token_ids[i]) for i in chosen])
        width = int(lengths.max())
        ids = torch.tensor([[*token_ids[i], *[0] * (width - len(token_ids[i]))] for i in chosen])
        mask = torch.arange(width) < lengths[:, None]
        ids, mask = ids.to(model.device), mask.to(model.device)
        states = model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        mask[:, :skip] = False
        means = torch.stack([(s.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) for s in states]).cpu()
        pooled = torch.zeros(len(means), len(token_ids), means.shape[-1]) if pooled is None else pooled
        pooled[:, chosen] = means
        if on_progress is not None:
            on_progress(start + len(chosen))
    if pooled is None:
        raise ValueError("no row has a token to pool")
    return pooled


class HiddenStates:
    """A model cut after the layer that is asked for.

    ``layer`` follows transformers' ``hidden_states``: 0 is the input of the first block, n the model's
    last hidden state (after the final norm), and i between them the output of block i (before any
    norm that follows the last block). ``model`` is cut in place: pass a copy to keep the original.
    """

    def __init__(self, model: PreTrainedModel, layer: int):
        if model.config.is_encoder_decoder:
            raise UserError(f"{type(model).__name__} is an encoder-decoder: give an encoder or a causal language model")
        base: Any = model.base_model
        self.model = base
        self.model.eval().requires_grad_(False)
        self.config = base.config.get_text_config()
        self.total = int(self.config.num_hidden_layers)
        self.layer = resolve_layer(layer, self.total)
        self.width = int(self.config.hidden_size)
        self._cut()

    def _blocks(self) -> nn.ModuleList:
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.config.num_hidden_layers:
                return module
        raise UserError(f"{type(self.model).__name__}: cannot find its {self.config.num_hidden_layers} layers")

    def _cut(self) -> None:
        keep = max(self.layer, 1)
        del self._blocks()[keep:]
        self.config.num_hidden_layers = keep
        if getattr(self.config, "layer_types", None):
            self.config.layer_types = list(self.config.layer_types)[:keep]

    @property
    def max_length(self) -> int:
        """Longest input in tokens."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 512)

    @torch.no_grad()
    def __call__(
        self,
        token_ids: Sequence[Sequence[int]],
        pooling: PoolingKind = "mean",
        batch_size: int = 64,
        skip: int = 0,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Pool each row of ``token_ids`` to (N, width) float32 on the CPU.

        The first ``skip`` positions (a BOS) are read but not pooled; rows with nothing to pool give
        the zero vector. Rows are batched by length; padding is masked.
        """
        result = torch.zeros(len(token_ids), self.width)
        order = sorted((i for i, ids in enumerate(token_ids) if len(ids) > skip), key=lambda i: len(token_ids[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            result[rows] = self._batch([list(token_ids[i]) for i in rows], pooling, skip)
            if on_progress is not None:
                on_progress(len(token_ids) - len(order) + start + len(rows))
        return result

    def _batch(self, rows: list[list[int]], pooling: PoolingKind, skip: int) -> torch.Tensor:
        longest = max(map(len, rows))
        device = self.model.device
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(longest, device=device)[None] < lengths[:, None]
        states = self._states(ids, mask.long()).float()
        if pooling == "cls":
            return states[:, skip].cpu()
        if pooling == "last":
            return states[torch.arange(len(rows), device=device), lengths - 1].cpu()
        mask[:, :skip] = False
        return ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).cpu()

    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The hidden state of ``self.layer``, (B, T, width)."""
        caught: list[Any] = []
        blocks = self._blocks()
        if self.layer == 0:
            hook = blocks[0].register_forward_pre_hook(
                lambda module, args, kwargs: caught.append(args[0] if args else kwargs["hidden_states"]),
                with_kwargs=True,
            )
        else:
            hook = blocks[self.layer - 1].register_forward_hook(lambda module, args, output: caught.append(output))
        # a cache would be filled and thrown away; encoders do not know the argument
        extra = {"use_cache": False} if hasattr(self.config, "use_cache") and self._causal else {}
        try:
            output = self.model(input_ids=ids, attention_mask=mask, **extra)
        finally:
            hook.remove()
        if self.layer == self.total:
            return output.last_hidden_state
        return caught[0][0] if isinstance(caught[0], tuple) else caught[0]

    @property
    def _causal(self) -> bool:
        return "past_key_values" in self.model.forward.__code__.co_varnames
