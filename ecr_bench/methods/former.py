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
"""Former name of a method -> how an entry of ``cells`` says it now."""

SECTIONS = ("distill", "relational", "dropout", "refresh", "lora")
"""Former sections of an experiment, which are options of these methods and modifiers now."""

PROJECTION = {"rank": "rank", "ridge": "ridge", "layer": "layer", "mlp_width": "width"}
"""Former key of the section ``projection`` -> option of its kind."""
TAKES = {"token-table": ("rank", "ridge"), "hidden": ("layer", "ridge"), "mlp": ("layer", "width")}


def modern_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ``cells`` of a published experiment as it would be written now."""
    overrides = spec.get("set") or {}
    if isinstance(overrides, Mapping):
        overrides = {_modern_key(str(key)): value for key, value in overrides.items()}
    method = spec.get("method")
    recipe = FORMER.get(method, {}) if isinstance(method, str) else {}
    return {**spec, **recipe, "set": overrides}


def modern_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """A published experiment as it would be written now; what is wrong in it stays for its reader to refuse."""
    moved = {name: experiment[name] for name in SECTIONS if name in experiment}
    kept = {key: value for key, value in experiment.items() if key not in moved}
    given, cells = experiment.get("options") or {}, experiment.get("cells") or []
    if moved:
        kept["options"] = {**moved, **given} if isinstance(given, Mapping) else given
    if isinstance(projection := experiment.get("projection"), Mapping):
        kept["projection"] = _modern_projection(projection)
    if isinstance(cells, list | tuple):
        kept["cells"] = [modern_spec(spec) if isinstance(spec, Mapping) else spec for spec in cells]
    return kept


def _modern_projection(section: Mapping[str, Any]) -> dict[str, Any]:
    """What stood beside ``kind`` for all kinds are the options of the kind that is chosen."""
    flat = {new: section[old] for old, new in PROJECTION.items() if old in section}
    if not flat:
        return dict(section)
    kept = {key: value for key, value in section.items() if key not in PROJECTION}
    taken = TAKES.get(section.get("kind", "token-table"), ())
    return {**kept, "options": {key: value for key, value in flat.items() if key in taken}}


def _modern_key(dotted: str) -> str:
    section, _, key = dotted.partition(".")
    if section == "projection" and key in PROJECTION:
        return f"projection.options.{PROJECTION[key]}"
    return f"options.{dotted}" if section in SECTIONS else dotted
