"""What can be known to be wrong with the pretrained models of a plan before any of its stages runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape

from ecr_bench.config import Experiment
from ecr_bench.device import device
from ecr_bench.errors import UserError
from ecr_bench.hub import read_pretrained
from ecr_bench.methods.layer_choice import check_count, check_layers
from ecr_bench.methods.packaged import local_source
from ecr_bench.runner.needs import shares
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.store import Store
from ecr_bench.sizes import PretrainedSize

TRAINED_BYTES = 16
"""Of a parameter in training: float32 weight, gradient and two moments of AdamW."""
READ_BYTES = 4
"""Of a parameter of a model that is read, in float32."""
MODEL_STAGES = ("compress", "base", "train")


def check_models(plan: Plan, store: Store, console: Console) -> None:
    """UserError for layers that do not exist, a vocabulary that cannot be cut, or too little memory for a size.

    Configuration and tokenizer of each pretrained size are read for it (a ``package:`` is fetched), no weights. Nothing
    is looked at where the stages that read a model are done.
    """
    if all(store.done(stage.id) for stage in plan.stages.values() if stage.kind in MODEL_STAGES):
        return
    checked: list[tuple[str, str]] = []
    for spec in plan.experiment.cells:
        for name in spec.sizes:
            local = plan.experiment.tuned_for(spec, name)
            for size in dict.fromkeys((name, *_named(local))):
                asked = (size, local.model_copy(update={"cells": ()}).model_dump_json())
                if asked not in checked:
                    checked.append(asked)
                    _check(local, size, console)


def _named(experiment: Experiment) -> Iterator[str]:
    """Sizes that others learn from."""
    larger, teacher = experiment.pretrain.distill, experiment.teacher
    if larger:
        yield larger
    if teacher.name == "checkpoint" and (size := teacher.options.get("size")) in experiment.sizes:
        yield size


def _check(experiment: Experiment, name: str, console: Console) -> None:
    size = experiment.sizes[name]
    if isinstance(size, PretrainedSize):
        console.print(escape(f"looking at {size.model}"), style="dim", highlight=False)
        config = _config(size)
        layers = check_kept(size, config.num_hidden_layers, f"sizes.{name}")
        if size.vocabulary == "corpus":
            _check_vocabulary(size)
        _check_memory(name, size, config)
    else:
        layers = size.layers
    teacher = experiment.teacher
    looked_at = {"geometry.layer": experiment.geometry.layer}
    if isinstance(layer := experiment.projection.options.get("layer"), int):
        looked_at["projection.options.layer"] = layer
    if teacher.name == "checkpoint" and teacher.options.get("size") == name:
        looked_at["teacher.options.layer"] = teacher.options.get("layer", -1)
    for key, layer in looked_at.items():
        if isinstance(layer, int) and not -layers - 1 <= layer <= layers:
            raise UserError(f"{key}: {layer} is no layer of size {name}: allowed are {-layers - 1} to {layers}")


def check_kept(size: PretrainedSize, total: int, who: str) -> int:
    """How many of ``total`` layers are kept; UserError that begins with ``who`` and the key where they do not exist."""
    if size.keep_layers is not None:
        check_layers(size.keep_layers, total, f"{who}.keep_layers")
        return len(size.keep_layers)
    if size.layers is not None:
        check_count(size.layers, total, f"{who}.layers")
        return size.layers
    return total


def _config(size: PretrainedSize) -> Any:
    from transformers import AutoConfig

    found = read_pretrained(AutoConfig, local_source(size.model), f"model {size.model!r}", size.revision)
    return found.get_text_config()


def _check_vocabulary(size: PretrainedSize) -> None:
    from ecr_bench.data.tokenizer import own_tokenizer
    from ecr_bench.data.vocabulary import check_cuttable

    source = local_source(size.model)
    check_cuttable(own_tokenizer(source, size.max_length, size.revision), f"model {size.model!r}")


def least_memory(size: PretrainedSize, config: Any) -> int:
    """Bytes that reading and training a size take at the least: weights, gradients and moments, no activations.

    Of a vocabulary that is cut, the rows that are left are not counted. On several devices: as ``needs.needs``.
    """
    body, tokens = _parameters(config)
    kept = len(size.keep_layers) if size.keep_layers is not None else size.layers or config.num_hidden_layers
    trained = body * kept // config.num_hidden_layers + (0 if size.vocabulary == "corpus" else tokens)
    copies = size.devices.count if device() == "cpu" else 1
    return copies * max(READ_BYTES * (body + tokens), TRAINED_BYTES * trained // shares(size.devices))


def _parameters(config: Any) -> tuple[int, int]:
    """Numbers in the layers, and in embedding and head, of a model that is never filled."""
    import torch
    from transformers import AutoModelForCausalLM

    from ecr_bench.methods.models import count_parameters

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    ends = {id(layer.weight): layer.weight.numel() for layer in (model.get_input_embeddings(), model.lm_head)}
    tokens = sum(ends.values())
    return count_parameters(model) - tokens, tokens


def _check_memory(name: str, size: PretrainedSize, config: Any) -> None:
    from ecr_bench.memory import free_memory

    needed, free = least_memory(size, config), free_memory()
    if needed > free:
        raise UserError(
            f"sizes.{name}: {size.model} takes {needed / 1e9:.1f} GB at the least to be read and trained, "
            f"{free / 1e9:.1f} GB are free: keep fewer layers, or take a smaller model"
        )
