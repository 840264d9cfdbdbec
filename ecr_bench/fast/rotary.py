"""Models that turn positions by the longest row of a batch: which requests may then share one.

Transformers computes the frequencies of ``rope_type: longrope`` and ``dynamic`` anew from the highest position of a
batch, so that the score of a short request would depend on a long one beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig

from ecr_bench.errors import UserError
from ecr_bench.fast.packing import Request


def together(config: PreTrainedConfig, requests: Sequence[Request]) -> list[list[int]]:
    """Indices of the requests that may share batches, by group: one group for nearly every model.

    UserError for ``dynamic`` frequencies and a request beyond the length they were trained at: they would be those of
    the longest row scored before.
    """
    lengths = [len(context) + len(continuation) - 1 for context, continuation in requests]
    limits = _limits(config)
    for kind, limit in limits:
        if kind == "dynamic" and any(length > limit for length in lengths):
            raise UserError(
                f"{config.name_or_path or config.model_type}: rope_type {kind!r}: scores of more than {limit} tokens "
                f"would depend on what is scored beside them: allowed are windows of up to {limit} (max_length)"
            )
    groups: dict[tuple[bool, ...], list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(tuple(length > limit for _, limit in limits), []).append(index)
    return list(groups.values())


def _limits(config: PreTrainedConfig) -> list[tuple[str, int]]:
    """Each kind of frequencies that depend on the length of a batch, and the tokens up to which they do not."""
    given: Any = getattr(config, "rope_parameters", None)
    if not isinstance(given, Mapping):
        return []
    by_layer = [part for part in given.values() if isinstance(part, Mapping)]
    found = []
    for part in by_layer or [given]:
        kind = part.get("rope_type")
        if kind == "longrope":
            found.append((kind, int(part["original_max_position_embeddings"])))
        elif kind and "dynamic" in kind:
            found.append(("dynamic", int(config.max_position_embeddings)))
    return sorted(set(found))
