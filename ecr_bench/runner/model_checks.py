"""What can be known to be wrong with the pretrained models of a plan before any of its stages runs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from ecr_bench.device import device
from ecr_bench.errors import UserError, about
from ecr_bench.hub import read_pretrained
from ecr_bench.methods.layer_choice import check_count, check_layers
from ecr_bench.methods.packaged import local_source
from ecr_bench.runner.needs import shares
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.store import Store
from ecr_bench.runner.used import UsedModel, UsedSize, used_models, used_sizes
from ecr_bench.sizes import PretrainedSize

TRAINED_BYTES = 16
"""Of a parameter in training: float32 weight, gradient and two moments of AdamW."""
READ_BYTES = 4
"""Of a parameter of a model that is read, in float32."""
MODEL_STAGES = ("compress", "base", "train")


def check_models(plan: Plan, store: Store, console: Console, here: bool = True) -> None:
    """UserError for layers that do not exist, a window that is not read, a vocabulary that cannot be cut, or too
    little memory for a model.

    Configuration and tokenizer of each pretrained model are read for it (a ``package:`` is fetched), no weights.
    Nothing is looked at where the stages that read a model are done. ``here``: whether this machine's memory must do.
    """
    if all(store.done(stage.id) for stage in plan.stages.values() if stage.kind in MODEL_STAGES):
        return
    cut: dict[tuple[str, str], tuple[str, PretrainedSize]] = {}
    for used in used_sizes(plan):
        _check_size(used, console, here)
        size = used.settings.sizes[used.name]
        if isinstance(size, PretrainedSize) and size.vocabulary == "corpus":
            cut.setdefault((size.model, size.revision), (used.name, size))
    for name, size in cut.values():  # each once: a tokenizer with a large vocabulary takes many seconds
        _check_vocabulary(name, size)
    for model in used_models(plan):
        _check_model(model, here)


def _check_size(used: UsedSize, console: Console, here: bool) -> None:
    name, size = used.name, used.settings.sizes[used.name]
    if isinstance(size, PretrainedSize):
        console.print(escape(f"looking at {size.model}"), style="dim", highlight=False)
        config = _config(size)
        layers, room = check_kept(size, config.num_hidden_layers, f"sizes.{name}"), _positions(config)
        if room and room < size.max_length:
            raise UserError(
                f"sizes.{name}.max_length: model {size.model!r}: reads {room} tokens, max_length is "
                f"{size.max_length}: at most {room}"
            )
        if here:
            _check_memory(used, size, config)
    else:
        layers, room = size.layers, size.max_length
    if room and room < used.window:
        raise UserError(f"{used.key}: size {name} {_short_of(room, used.window)}")
    _check_looked_at(used, layers)


def _check_looked_at(used: UsedSize, layers: int) -> None:
    """UserError for a hidden state that a size of ``layers`` lacks."""
    looked_at = {"geometry.layer": used.settings.geometry.layer}
    if isinstance(layer := used.settings.projection.options.get("layer"), int):
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
    if (room := _positions(config)) and room < model.window:
        raise UserError(f"{model.key}: {model.source} {_short_of(room, model.window)}")
    if here:
        who, kind = f"{model.key}: {model.source}", AutoModelForCausalLM if model.distilled else AutoModel
        needed = model.bytes * count_parameters(_unfilled(kind, config, who))
        _refuse(who, needed, "to be read", "take a smaller model")


def _positions(config: Any) -> int | None:
    from ecr_bench.data.tokenizer import positions_of

    return positions_of(config)


def _short_of(room: int, window: int) -> str:
    return f"reads {room} tokens, the size that learns from it {window} (its max_length): it must read as many"


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


def _check_vocabulary(name: str, size: PretrainedSize) -> None:
    from ecr_bench.data.tokenizer import own_tokenizer
    from ecr_bench.data.vocabulary import check_cuttable

    with about(f"sizes.{name}"):
        tokenizer = own_tokenizer(local_source(size.model), size.max_length, size.revision)
        check_cuttable(tokenizer, f"model {size.model!r}")


def least_memory(size: PretrainedSize, config: Any, trained: bool = True) -> int:
    """Bytes that reading and, where it is ``trained``, training a size take at the least: weights, gradients and
    moments, no activations.

    Of a vocabulary that is cut, the rows that are left are not counted. On several devices: as ``needs.needs``.
    """
    body, tokens = _parameters(config, f"model {size.model!r}")
    read = READ_BYTES * (body + tokens)
    if not trained:
        return read
    kept = len(size.keep_layers) if size.keep_layers is not None else size.layers or config.num_hidden_layers
    numbers = body * kept // config.num_hidden_layers + (0 if size.vocabulary == "corpus" else tokens)
    copies = size.devices.count if device() == "cpu" else 1
    return copies * max(read, TRAINED_BYTES * numbers // shares(size.devices))


def _parameters(config: Any, who: str) -> tuple[int, int]:
    """Numbers in the layers, and in embedding and head, of a causal LM; UserError as of ``_unfilled``."""
    from transformers import AutoModelForCausalLM

    from ecr_bench.methods.models import count_parameters

    model = _unfilled(AutoModelForCausalLM, config, who)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tokens = sum({id(layer.weight): layer.weight.numel() for layer in ends}.values())
    return count_parameters(model) - tokens, tokens


def _unfilled(kind: Any, config: Any, who: str) -> Any:
    """The model of ``config`` without memory for its weights; UserError that begins with ``who`` where it makes none.

    ``kind``: an ``AutoModel`` class of transformers.
    """
    import torch

    try:
        with torch.device("meta"):
            return kind.from_config(config)
    except Exception as error:  # each model checks its configuration in its own way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{who}: its config.json makes no model: {reason:.160}") from error


def _check_memory(used: UsedSize, size: PretrainedSize, config: Any) -> None:
    what = "to be read and trained" if used.trained else "to be read"
    needed = least_memory(size, config, bool(used.trained))
    _refuse(
        f"sizes.{used.name}: {size.model}{used.purpose}", needed, what, "keep fewer layers, or take a smaller model"
    )


def _refuse(who: str, needed: int, what: str, remedy: str) -> None:
    """UserError where ``who`` takes more than the bytes that are free."""
    from ecr_bench.memory import free_memory

    if needed > (free := free_memory()):
        raise UserError(
            f"{who} takes {needed / 1e9:.1f} GB at the least {what}, {free / 1e9:.1f} GB are free: {remedy}"
        )
