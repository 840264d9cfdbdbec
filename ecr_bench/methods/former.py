"""Names under which published results know arms that are recipes now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DENSE, _INT8, _NF4 = "lora", {"lora": {"base": "int8"}}, {"lora": {"base": "nf4"}}

FORMER: dict[str, dict[str, Any]] = {
    "distill": {"method": "finetune", "with": ["distill"]},
    "ecr+distill": {"method": "ecr", "with": ["distill"]},
    "ecr+refresh": {"method": "ecr", "with": ["refresh"]},
    "ecr+dropout": {"method": "ecr", "with": ["dropout"]},
    "finetune+lora": {"method": "finetune", "with": [_DENSE]},
    "ecr+lora": {"method": "ecr", "with": [_DENSE]},
    "finetune+lora-int8": {"method": "finetune", "with": [_INT8]},
    "finetune+lora-nf4": {"method": "finetune", "with": [_NF4]},
    "ecr+lora-int8": {"method": "ecr", "with": [_INT8]},
    "ecr+lora-nf4": {"method": "ecr", "with": [_NF4]},
}
"""Former name of a method -> how a cell group says it now."""

SECTIONS = ("distill", "relational", "dropout", "refresh", "lora")
"""Former sections of an experiment, which are options of these methods and modifiers now."""


def modern_group(group: Mapping[str, Any]) -> dict[str, Any]:
    """A cell group of a published experiment as it would be written now."""
    overrides = {_modern_key(key): value for key, value in (group.get("set") or {}).items()}
    return {**group, **FORMER.get(group["method"], {}), "set": overrides}


def modern_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """A published experiment as it would be written now."""
    moved = {name: experiment[name] for name in SECTIONS if name in experiment}
    kept = {key: value for key, value in experiment.items() if key not in moved}
    options = {**moved, **(experiment.get("options") or {})}
    return {**kept, "options": options, "cells": [modern_group(group) for group in experiment.get("cells") or ()]}


def _modern_key(dotted: str) -> str:
    return f"options.{dotted}" if dotted.split(".")[0] in SECTIONS else dotted
