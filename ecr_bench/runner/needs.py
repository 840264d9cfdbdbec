"""The least memory that training takes, by settings alone: what cannot fit is refused before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ecr_bench import formats
from ecr_bench.config import Experiment
from ecr_bench.device import device
from ecr_bench.errors import UserError
from ecr_bench.memory import model_memory
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.used import used_sizes
from ecr_bench.sizes import Devices, PretrainedSize, SizeConfig

TRAINED, TRAINED_BY_ADAMW = 12, 16
"""Bytes a parameter takes in training at least: weight, gradient and one moment (of AdamW: two), float32."""


@dataclass(frozen=True)
class Need:
    """A lower bound: what is measured is more."""

    key: str
    """The setting that it follows from."""
    bytes: int
    what: str
    stage: str
    """The training that takes it: ``pretrain`` or ``finetune``."""


def needs(experiment: Experiment, size: str) -> Iterator[Need]:
    """What training an arm of ``experiment`` at ``size`` takes at least; nothing for a pretrained model.

    On several devices: of each GPU, or of the one memory that processes of the CPU have.
    """
    shape = experiment.sizes[size]
    if isinstance(shape, PretrainedSize):
        return  # runner/model_checks.py looks at these
    count = parameters(shape, experiment.tokenizer.vocab_size)
    # an arm may leave parameters alone in fine-tuning; its base is trained whole
    whole = {"pretrain": trained_bytes(shape, count, experiment.pretrain.optimiser), "finetune": TRAINED * count}
    states = {key: size_of // shares(shape.devices) for key, size_of in whole.items()}
    copies = shape.devices.count if device() == "cpu" else 1
    yield Need(f"sizes.{size}", copies * states["pretrain"], f"training {count:,} parameters", "pretrain")
    for key, stage in (("pretrain", experiment.pretrain), ("finetune", experiment.finetune)):
        rows = math.ceil(stage.batch_size / (shape.accumulate * shape.devices.count))
        # BOS and one token of text beside the control tokens; the input of each layer, float32
        kept = rows * (experiment.control_tokens.count + 2) * shape.hidden_size * shape.layers * 4
        what = f"training on {copies * rows:,} rows of size {size} at once"
        yield Need(f"{key}.batch_size", copies * (states[key] + kept), what, key)


def shares(devices: Devices) -> int:
    """Into how many parts weights, gradients and optimiser are taken."""
    return devices.count if devices.strategy == "fsdp2" else 1


def trained_bytes(shape: SizeConfig, count: int, optimiser: str) -> int:
    """Of ``count`` parameters with gradients and the moments of ``optimiser``: AdamW has two, Muon one of the hidden
    matrices; float32."""
    hidden = shape.layers * (4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size)
    return TRAINED_BY_ADAMW * count - (TRAINED_BY_ADAMW - TRAINED) * (hidden if optimiser == "muon" else 0)


def remedy(experiment: Experiment, size: str, limit: int) -> str:
    """The first setting under which nothing at ``size`` needs more than ``limit`` bytes, as ``--set`` takes it."""
    shape, batch = experiment.sizes[size], max(experiment.pretrain.batch_size, experiment.finetune.batch_size)
    parts = (shape.accumulate * 2**power for power in range(1, batch.bit_length()))
    most = min(experiment.pretrain.batch_size, experiment.finetune.batch_size) // shape.devices.count
    most = batch if shape.devices.count == 1 else most
    settings: list[tuple[str, int | str]] = [(f"sizes.{size}.accumulate", value) for value in parts if value <= most]
    settings.append(("pretrain.optimiser", "muon"))
    for key, value in settings:
        if all(need.bytes <= limit for need in needs(experiment.with_overrides({key: value}), size)):
            return f"--set {key}={value} would make it fit"
    return "take a smaller size or a larger machine"


def parameters(shape: SizeConfig, vocabulary: int) -> int:
    """Of a Llama with tied embeddings: embedding; attention, MLP and two norms a layer; the last norm."""
    layer = 4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size + 2 * shape.hidden_size
    return vocabulary * shape.hidden_size + shape.layers * layer + shape.hidden_size


def check_memory(plan: Plan) -> None:
    """UserError where what trains a cell, or a size that it learns from, takes more memory than there is."""
    limit = model_memory()
    for used in used_sizes(plan):
        for need in needs(used.settings, used.name):
            if need.stage in used.trained and need.bytes > limit:
                least, room = map(formats.size, (need.bytes, limit))
                raise UserError(
                    f"{plan.experiment.name}: {need.key}: {need.what}{used.purpose} takes at least {least} of memory, "
                    f"here are {room}: {remedy(used.settings, used.name, limit)}"
                )
