"""How many bytes a loaded model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def describe(model: PreTrainedModel) -> dict[str, int]:
    """Count stored bytes of a loaded model.

    Returns ``bytes`` (all of the below), ``dense`` (floating-point parameters and buffers), ``packed``
    (integer ones: quantised weights) and ``scales`` (quantisation state outside parameters and buffers:
    block maxima, row maxima and code books). Storage shared by several names, such as tied embeddings,
    counts once.
    """
    sizes = {"dense": 0, "packed": 0, "scales": 0}
    seen: set[int] = set()

    def count(kind: str, tensor: object) -> None:
        if hasattr(tensor, "data_ptr") and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            sizes[kind] += tensor.numel() * tensor.element_size()  # type: ignore[attr-defined]

    for tensor in [*model.parameters(), *model.buffers()]:
        count("dense" if tensor.is_floating_point() else "packed", tensor)
    for module in model.modules():
        # bitsandbytes moves the row maxima of an int8 weight here at the first forward
        count("scales", getattr(getattr(module, "state", None), "SCB", None))
    for parameter in model.parameters():
        count("scales", getattr(parameter, "SCB", None))
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            for name in ("absmax", "code", "offset"):
                count("scales", getattr(state, name, None))
            state = getattr(state, "state2", None)
    return {"bytes": sum(sizes.values()), **sizes}
