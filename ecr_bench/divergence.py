"""A model diverged when its numbers are not finite: then it has no scores, no rank and no shape.

A stage that ends so says why in its result under ``KEY``; whatever is made from it is not made, and says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.errors import UserError

if TYPE_CHECKING:
    import torch

KEY = "diverged"
SUBJECTS = {"base": "its base model", "larger": "the teacher it is distilled from", "teacher": "the anchors' teacher"}
"""Input of a stage -> what it is called where it is another model than the one the stage is about."""


class DivergedError(UserError):
    """A model whose numbers are not finite was asked for scores."""


def reason_of(result: Mapping[str, Any]) -> str:
    """Why a finished stage has nothing to go on with; empty where it is sound."""
    return str(result.get(KEY, ""))


def inherited(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a stage cannot be run: the first of the ``results`` of its inputs, by role, that diverged; else empty."""
    for role, result in results.items():
        if reason := reason_of(result):
            return f"{SUBJECTS[role]} diverged ({reason})" if role in SUBJECTS else reason
    return ""


def after_training(model: torch.nn.Module, last_loss: torch.Tensor) -> dict[str, str]:
    """What the result of a training stage says of it: ``KEY`` and the reason, or nothing where it is sound."""
    reason = broken_parameter(model)
    if not reason and not bool(last_loss.isfinite()):
        reason = "the last training loss is not finite"
    return {KEY: reason} if reason else {}


def broken_parameter(model: torch.nn.Module) -> str:
    """Which parameter of ``model`` is not finite, in words; empty where all are. Of packed weights: their scales."""
    for name, parameter in model.named_parameters():
        for tensor in (parameter.detach(), *_scales(parameter)):
            if tensor.is_floating_point() and (broken := int((~tensor.isfinite()).sum())):
                return f"{broken} of {tensor.numel()} numbers of {name} are not finite"
    return ""


def check_finite(model: torch.nn.Module, source: str) -> None:
    """DivergedError naming ``source`` and the parameter unless all of ``model`` is finite."""
    if problem := broken_parameter(model):
        raise DivergedError(f"{source}: {problem}: this model diverged, nothing can be scored with it")


def check_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """DivergedError naming the file and the tensor unless all numbers in ``tensors`` are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DivergedError(f"{path}: {name} is not finite: what it was fitted on diverged")


def _scales(parameter: Any) -> list[torch.Tensor]:
    """bitsandbytes: row maxima of an int8 weight, block maxima of a 4-bit one."""
    found = [getattr(parameter, "SCB", None), getattr(getattr(parameter, "quant_state", None), "absmax", None)]
    return [tensor for tensor in found if tensor is not None]
