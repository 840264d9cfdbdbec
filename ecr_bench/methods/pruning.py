"""A pretrained causal LM with fewer layers and fewer tokens, its other weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ecr_bench.errors import UserError
from ecr_bench.methods.layer_choice import check_layers


@torch.no_grad()
def keep_tokens(model: PreTrainedModel, kept: torch.Tensor) -> None:
    """Cut the embedding and the head, tied or not, to the rows ``kept`` (V,) int64; in place.

    The logit of new token i is that of token ``kept[i]`` before.
    """
    rows = {}
    for name, layer in (("in", model.get_input_embeddings()), ("out", model.get_output_embeddings())):
        rows[name] = layer.weight.detach()[kept].clone()  # type: ignore[operator]
        bias = getattr(layer, "bias", None)
        if bias is not None:
            rows[f"{name} bias"] = bias.detach()[kept].clone()
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    embedding.weight.copy_(rows["in"])
    head.weight.copy_(rows["out"])
    if "out bias" in rows:
        head.bias.copy_(rows["out bias"])
    embedding.padding_idx = model.config.pad_token_id  # as a model that is read from its folder has it


class Layers:
    """The layers of ``model``, of which some can be used: all that is said layer by layer goes with them."""

    def __init__(self, model: PreTrainedModel):
        self.config: Any = model.config
        self.total = int(self.config.num_hidden_layers)
        if getattr(self.config, "num_kv_shared_layers", 0):
            raise UserError(f"{type(model).__name__}: its layers share keys and values, none can be taken out")
        self.parent, self.name = _place_of_layers(model, self.total)
        self.all = list(getattr(self.parent, self.name))
        # layer_types, no_rope_layers, ...: masks and positions are looked up there by the place of a layer
        listed = vars(self.config).items()
        self.said = {key: value for key, value in listed if isinstance(value, list) and len(value) == self.total}

    def use(self, kept: Sequence[int]) -> None:
        """Leave only the layers ``kept`` (ascending, of all), in place."""
        setattr(self.parent, self.name, nn.ModuleList(self.all[index] for index in kept))
        for place, index in enumerate(kept):
            for module in self.all[index].modules():
                if hasattr(module, "layer_idx"):  # its place in the cache
                    module.layer_idx = place
        for key, value in self.said.items():
            setattr(self.config, key, [value[index] for index in kept])
        self.config.num_hidden_layers = len(kept)


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave only the layers ``kept`` (ascending), in place.

    UserError for numbers that are no layers, and for a model whose layers are not independent of each other.
    """
    layers = Layers(model)
    check_layers(kept, layers.total, type(model).__name__)
    layers.use(kept)


def _place_of_layers(model: PreTrainedModel, total: int) -> tuple[nn.Module, str]:
    for module in model.base_model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == total:
                return module, name
    raise UserError(f"{type(model).__name__}: cannot find its {total} layers")


def greedy_layers(
    model: PreTrainedModel, count: int, loss: Callable[[], float], report: Callable[[int, int], None]
) -> tuple[list[int], list[float]]:
    """Take out the layer without which ``loss()`` is least, one after the other, until ``count`` are left.

    Greedy backward elimination, as in arXiv 2411.06506. ``loss`` looks at ``model``, which is whole again afterwards.
    Returns the layers left, ascending, and the loss after each removal.
    """
    layers = Layers(model)
    left, losses, asked = list(range(layers.total)), [], 0
    tries = sum(range(count + 1, layers.total + 1))
    try:
        while len(left) > count:
            found = []
            for without in left:
                layers.use([index for index in left if index != without])
                found.append((loss(), without))
                asked += 1
                report(asked, tries)
            best, worst = min(found)
            losses.append(best)
            left.remove(worst)
    finally:
        layers.use(range(layers.total))
    return left, losses
