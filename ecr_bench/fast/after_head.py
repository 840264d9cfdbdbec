"""What a model does around its output layer, found by measuring and not by knowing its class.

Losses and scores run the output layer on the few states that count. That gives the model's logits only where nothing
happens between its body and that layer, and after it nothing but a scale and a cap: c tanh(s x / c) of its output x
(Granite, Falcon-H1 and Cohere scale; Gemma 2 caps). Any other model is asked for its own logits instead.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""What rounding may change: largest difference by largest value."""
SMALL, LARGE = 1e-3, 1e4
"""Largest output of the layer at which the scale and the cap are read: a cap shows only on large ones."""
BETWEEN = (1.0, 10.0, 100.0)
"""Where what was read is tried."""


@dataclass(frozen=True)
class AfterHead:
    """What becomes of the output x of the last layer: ``cap * tanh(scale * x / cap)``, or ``scale * x`` without cap."""

    scale: float = 1.0
    cap: float = math.inf

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        if self.scale != 1:
            logits = logits * self.scale
        return logits if math.isinf(self.cap) else torch.tanh(logits / self.cap) * self.cap


def after_head(model: PreTrainedModel) -> AfterHead | None:
    """What ``model`` does to the output of its last layer, measured once; None where only its own forward knows.

    A warning names a model of the second kind, and why.
    """
    if not hasattr(model, "measured_after_head"):
        found, why = _try(model)
        if found is None:
            log.warning("%s is run through its own forward, which is slower: %s", type(model).__name__, why)
        model.measured_after_head = found  # type: ignore[assignment]  # a plain attribute, never saved
    known: Any = model.measured_after_head
    return known


def _try(model: PreTrainedModel) -> tuple[AfterHead | None, str]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # dropout would make two passes differ
    try:
        with torch.no_grad(), torch.random.fork_rng(), torch.autocast(model.device.type, enabled=False):
            return _measure(model)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's own code makes of being called in parts
        return None, f"{type(error).__name__}: {' '.join(str(error).split()):.120}"
    finally:
        for module, mode in modes:
            module.training = mode


def _measure(model: PreTrainedModel) -> tuple[AfterHead | None, str]:
    head: Any = model.get_output_embeddings()
    if head is None:
        return None, "it has no output layer"
    rows = min(len(head.weight), len(model.get_input_embeddings().weight))  # type: ignore[arg-type]
    ids = (torch.arange(2 * 3, device=model.device) * 5 % rows).view(2, 3)
    body = model.base_model(input_ids=ids, use_cache=False)
    passed = _passed(model, head, ids, 1.0)
    if passed is None:
        return None, "its output layer is not called"
    seen, output, _ = passed
    if not torch.isfinite(output).all():
        return None, "its output layer gives numbers that are not finite"
    if not _close(seen, body[0]):
        return None, "something happens between its body and its output layer"
    top = float(output.abs().max())
    if not top:
        return None, "its output layer gives nothing but zeros, which tell nothing"

    def logits_at(size: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Output of the layer, at most ``size``, and the logits the model makes of it."""
        with _gives(model, model.base_model, body):
            if not (head._forward_hooks or head._forward_pre_hooks):  # a product with a large vocabulary, saved
                scaled = output * (size / top)
                with _gives(model, head, scaled):
                    return scaled, model(input_ids=ids, use_cache=False).logits
            again = _passed(model, head, ids, size / top)
        assert again is not None
        return again[1] * (size / top), again[2]

    given, found = logits_at(SMALL)
    scale = 1.0 if torch.equal(given, found.to(given.dtype)) else _slope(given, found)
    given, found = logits_at(LARGE)
    linear = _close(AfterHead(scale)(given), found)
    measured = AfterHead(scale) if linear else AfterHead(scale, float(found.abs().max()))
    for size in (SMALL, *BETWEEN, LARGE):
        given, found = logits_at(size)
        if found.shape != given.shape or not _close(measured(given), found):
            return None, "its logits are neither a multiple of its output layer's nor capped ones"
    return measured, ""


@contextlib.contextmanager
def _gives(model: PreTrainedModel, module: Any, output: Any) -> Iterator[None]:
    """Inside, ``module``, a part of ``model``, is not run: it gives a copy of ``output``, what it gave before."""
    if module is model:
        yield
        return
    own = vars(module).get("forward")  # wrappers put theirs there
    module.forward = lambda *_, **__: copy.copy(output)
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _slope(given: torch.Tensor, found: torch.Tensor) -> float:
    """The number that multiplies ``given`` to ``found``, by least squares: more exact than one rounded logit."""
    given, found = given.double(), found.double()
    return float((given * found).sum() / (given * given).sum())


def _passed(
    model: PreTrainedModel, head: torch.nn.Module, ids: torch.Tensor, factor: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Input and output of ``head`` in a pass over ``ids``, and the logits made of its output times ``factor``.

    None when ``head`` was not called exactly once.
    """
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def multiply(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        calls.append((inputs[0], output))
        return output * factor

    handle = head.register_forward_hook(multiply)
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    return (*calls[0], logits) if len(calls) == 1 else None


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    difference = (found.float() - expected.float()).abs().max()
    return bool(difference <= TOLERANCE.get(expected.dtype, 0) * expected.float().abs().max())
