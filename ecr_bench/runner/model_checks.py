"""What can be known to be wrong with the pretrained models of a plan before any of its stages runs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from ecr_bench.errors import UserError, about
from ecr_bench.hub import read_pretrained
from ecr_bench.methods.layer_choice import check_count, check_layers
from ecr_bench.methods.packaged import local_source
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.distillation_checks import check_distillation
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.store import Store
from ecr_bench.runner.unread import check_one_stack, config_of, least_memory, refuse_beyond_free, unfilled
from ecr_bench.runner.used import UsedModel, UsedSize, distillations, used_models, used_sizes
from ecr_bench.sizes import PretrainedSize

MODEL_STAGES = ("compress", "base", "train")


def check_models(plan: Plan, store: Store, console: Console, here: bool = True) -> None:
    """UserError for layers that do not exist, a window that is not read, a vocabulary that cannot be cut, a model whose
    logits cannot be learned from, or too little memory.

    Configuration and tokenizer of each pretrained model are read for it (a ``package:`` is fetched), no weights.
    Nothing is looked at where the stages that read a model are done. ``here``: whether this machine's memory must do.
    """
    if all(store.done(stage.id) for stage in plan.stages.values() if stage.kind in MODEL_STAGES):
        return
    cut: dict[tuple[str, str], tuple[str, PretrainedSize]] = {}
    projecting = _with_anchors(plan)
    for used in used_sizes(plan):
        layers = _check_size(used, console, here)
        _check_looked_at(used, layers, projected=not used.key and used.name in projecting)
        size = used.size
        if isinstance(size, PretrainedSize) and size.vocabulary == "corpus":
            cut.setdefault((size.model, size.revision), (used.name, size))
    for name, size in cut.values():  # each once: a tokenizer with a large vocabulary takes many seconds
        _check_vocabulary(name, size)
    for model in used_models(plan):
        _check_model(model, here)
    for pair in distillations(plan):
        check_distillation(pair, here)


def _with_anchors(plan: Plan) -> set[str]:
    """Sizes that a cell trains with anchors, on whose base the projection is fitted."""
    entries = [(spec, size) for spec in plan.experiment.cells for size in spec.sizes]
    return {
        size
        for spec, size in entries
        if Recipe.of_spec(spec, plan.experiment.tuned_for(spec, size).options).uses_anchors
    }


def _check_size(used: UsedSize, console: Console, here: bool) -> int:
    """How many layers it has."""
    name, size = used.name, used.size
    if not isinstance(size, PretrainedSize):
        return size.layers
    from ecr_bench.data.tokenizer import positions_of

    console.print(escape(f"looking at {size.model}"), style="dim", highlight=False)
    config = config_of(size)
    layers, room = check_kept(size, config.num_hidden_layers, f"sizes.{name}"), positions_of(config)
    if room and room < size.max_length:
        raise UserError(
            f"sizes.{name}.max_length: model {size.model!r}: reads {room} tokens, max_length is "
            f"{size.max_length}: at most {room}"
        )
    if here:
        _check_memory(used, size, config)
    return layers


def _check_looked_at(used: UsedSize, layers: int, projected: bool) -> None:
    """UserError for a hidden state that is asked of a size of ``layers`` and that it lacks.

    ``projected``: whether a projection is fitted on it."""
    geometry, looked_at = used.settings.geometry, {}
    # of a model that others learn from nothing is measured, but fine-tuning keeps its states at several steps
    if not used.key or ("finetune" in used.trained and geometry.snapshots):
        looked_at["geometry.layer"] = geometry.layer
    if projected and isinstance(layer := used.settings.projection.options.get("layer"), int):
        looked_at["projection.options.layer"] = layer
    if used.layer is not None:
        looked_at["teacher.options.layer"] = used.layer
    for key, layer in looked_at.items():
        if not -layers - 1 <= layer <= layers:
            raise UserError(f"{key}: {layer} is no layer of size {used.name}: allowed are {-layers - 1} to {layers}")


def _check_model(model: UsedModel, here: bool) -> None:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from ecr_bench.methods.models import count_parameters

    config = read_pretrained(AutoConfig, model.source, model.key, model.revision)
    who, kind = f"{model.key}: {model.source}", AutoModelForCausalLM if model.distilled else AutoModel
    check_one_stack(config, who)
    if here:
        needed = model.bytes * count_parameters(unfilled(kind, config, who))
        refuse_beyond_free(who, needed, "to be read", "take a smaller model")


def check_kept(size: PretrainedSize, total: int, who: str) -> int:
    """How many of ``total`` layers are kept; UserError that begins with ``who`` and the key where they do not exist."""
    if size.keep_layers is not None:
        check_layers(size.keep_layers, total, f"{who}.keep_layers")
        return len(size.keep_layers)
    if size.layers is not None:
        check_count(size.layers, total, f"{who}.layers")
        return size.layers
    return total


def _check_vocabulary(name: str, size: PretrainedSize) -> None:
    from ecr_bench.data.tokenizer import own_tokenizer
    from ecr_bench.data.vocabulary import check_cuttable

    with about(f"sizes.{name}"):
        tokenizer = own_tokenizer(local_source(size.model), size.max_length, size.revision)
        check_cuttable(tokenizer, f"model {size.model!r}")


def _check_memory(used: UsedSize, size: PretrainedSize, config: Any) -> None:
    what = "to be read and trained" if used.weights_trained else "to be read"
    needed = least_memory(size, config, used.weights_trained)
    refuse_beyond_free(
        f"sizes.{used.name}: {size.model}{used.purpose}", needed, what, "keep fewer layers, or take a smaller model"
    )
