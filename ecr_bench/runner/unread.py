"""What is known of a pretrained model before its weights are read: its configuration, and the memory it takes."""

from __future__ import annotations

from typing import Any

from ecr_bench import formats
from ecr_bench.device import device
from ecr_bench.errors import UserError
from ecr_bench.hub import read_pretrained
from ecr_bench.methods.packaged import local_source
from ecr_bench.runner.needs import shares
from ecr_bench.sizes import PretrainedSize

TRAINED_BYTES = 16
"""Of a parameter in training: float32 weight, gradient and two moments of AdamW."""
READ_BYTES = 4
"""Of a parameter of a model that is read, in float32."""


def config_of(size: PretrainedSize) -> Any:
    """Configuration of its text model; UserError for an encoder-decoder."""
    from transformers import AutoConfig

    who = f"model {size.model!r}"
    found = read_pretrained(AutoConfig, local_source(size.model), who, size.revision)
    check_one_stack(found, who)
    return found.get_text_config()


def check_one_stack(config: Any, who: str) -> None:
    """UserError that begins with ``who`` for an encoder-decoder."""
    if config.is_encoder_decoder:
        raise UserError(f"{who} is an encoder-decoder: give an encoder or a causal language model")


def least_memory(size: PretrainedSize, config: Any, trained: bool = True) -> int:
    """Bytes that reading and, where it is ``trained``, training a size take at the least: no activations are counted.

    On several devices: as ``needs.needs``."""
    read = READ_BYTES * sum(parameters_of(config, f"model {size.model!r}"))
    return max(read * _copies(size), training_memory(size, config)) if trained else read


def training_memory(size: PretrainedSize, config: Any) -> int:
    """Bytes of weights, gradients and moments of what is kept of a size."""
    return _copies(size) * (TRAINED_BYTES * numbers_kept(size, config) // shares(size.devices))


def _copies(size: PretrainedSize) -> int:
    return size.devices.count if device() == "cpu" else 1


def numbers_kept(size: PretrainedSize, config: Any) -> int:
    """Parameters of a size after its layers and vocabulary are cut, at the least: of a vocabulary that is cut, the rows
    that are left are not counted."""
    body, tokens = parameters_of(config, f"model {size.model!r}")
    kept = len(size.keep_layers) if size.keep_layers is not None else size.layers or config.num_hidden_layers
    return body * kept // config.num_hidden_layers + (0 if size.vocabulary == "corpus" else tokens)


def parameters_of(config: Any, who: str) -> tuple[int, int]:
    """Numbers in the layers, and in embedding and head, of a causal LM; UserError as of ``unfilled``."""
    from transformers import AutoModelForCausalLM

    from ecr_bench.methods.models import count_parameters

    model = unfilled(AutoModelForCausalLM, config, who)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tokens = sum({id(layer.weight): layer.weight.numel() for layer in ends}.values())
    return count_parameters(model) - tokens, tokens


def unfilled(kind: Any, config: Any, who: str) -> Any:
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


def refuse_beyond_free(who: str, needed: int, what: str, remedy: str) -> None:
    """UserError where ``who`` takes more than the bytes that are free."""
    from ecr_bench.memory import free_memory

    if needed > (free := free_memory()):
        least, room = map(formats.size, (needed, free))
        raise UserError(f"{who} takes {least} at the least {what}, {room} are free: {remedy}")
