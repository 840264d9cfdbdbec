"""FSDP2: each device keeps a share of weights, gradients and optimiser, and has a layer whole only while it runs it.

A training step does not run the model's own forward (the head runs at the positions that count), so it is the step
itself that is the forward of the outermost module: what is no layer is whole inside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from transformers import PreTrainedModel

from ecr_bench.fast.labelled import measure_whole
from ecr_bench.methods.models import outer_layers

if TYPE_CHECKING:
    from ecr_bench.methods.base import CausalLMModule

FORWARD = ("training_step", "validation_step", "gathered")
"""Methods that run the model."""


def shard(module: CausalLMModule) -> None:
    """Share the parameters of ``module`` among the devices of its mesh, in place."""
    assert module.device_mesh is not None
    mesh = module.device_mesh["data_parallel"]
    for model in list(module.modules()):
        if isinstance(model, PreTrainedModel) and model.get_output_embeddings() is not None:
            measure_whole(model)
    for layer in outer_layers(module):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in FORWARD:
        register_fsdp_forward_method(module, name)


def unsharded(model: PreTrainedModel, first: bool) -> PreTrainedModel | None:
    """The model put together from its shares, on the CPU, for the ``first`` of the devices; None for the others.

    All devices must call it.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    if not first:
        return None
    made = type(model)(model.config)
    made.load_state_dict(state)
    return made.eval()
