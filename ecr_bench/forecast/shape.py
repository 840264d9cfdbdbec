"""What two stages must share to cost the same, and what their cost grows with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ecr_bench.io import fingerprint
from ecr_bench.nested import value_at
from ecr_bench.stages.identity import Identity

NO_COST = frozenset({"seed", "seed_per_cell", "learning_rate", "warmup", "weight_decay", "init_std"})
"""Settings that change numbers and not how long they take. One that is missing here only costs a measurement."""
GROWS_WITH: Mapping[str, tuple[str, ...]] = {
    "base": ("pretrain", "steps"),
    "train": ("finetune", "steps"),
    "items": ("test_items",),
    "anchors": ("rows",),
    "translations": ("rows",),
}
"""Kind of stage -> the setting that says how many steps, items or rows it takes: its units."""
GROWS_WITH_INPUT: Mapping[str, str] = {"score": "items"}
"""Kind of stage -> role of the input whose units are its own."""


class Shapes:
    """Shapes of stages, each from its identity and those of all it rests on."""

    def __init__(self, find: Callable[[str], Identity | None]):
        """``find``: the identity of a stage by its id, None where it is not known."""
        self._find = find
        self._found: dict[str, str | None] = {}

    def of(self, identity: Identity) -> str | None:
        """Fingerprint of kind, device, and all settings that cost, of the stage and of its inputs; None where one of
        these is not known."""
        if (known := identity.stage_id) not in self._found:
            inputs = {role: self._of_input(stage_id) for role, stage_id in identity.inputs.items()}
            self._found[known] = None if None in inputs.values() else _shape(identity, inputs)
        return self._found[known]

    def _of_input(self, stage_id: str) -> str | None:
        found = self._find(stage_id)
        return self.of(found) if found is not None else None

    def units(self, identity: Identity) -> float:
        """Steps, test items a language or rows; 1 for work whose amount no one setting says."""
        if role := GROWS_WITH_INPUT.get(identity.kind):
            found = self._find(identity.inputs[role])
            return self.units(found) if found is not None else 1.0
        value = value_at(identity.settings, GROWS_WITH.get(identity.kind, ()))
        return float(value) if isinstance(value, int) else 1.0


def code_key(identity: Identity) -> str:
    """Fingerprint of the code and packages of a stage."""
    return fingerprint({"files": dict(identity.files), "packages": dict(identity.packages)})


def _shape(identity: Identity, inputs: Mapping[str, str | None]) -> str:
    return fingerprint(
        {
            "kind": identity.kind,
            "settings": _costing(identity.settings, GROWS_WITH.get(identity.kind, ())),
            "inputs": dict(inputs),
            "device": identity.device,
            "plain": identity.plain,
        }
    )


def _costing(value: Any, path: tuple[str, ...]) -> Any:
    """Without what costs nothing; of the units at ``path`` only whether there are any."""
    if isinstance(value, Mapping):
        return {
            key: bool(part) if path == (key,) else _costing(part, path[1:] if path[:1] == (key,) else ())
            for key, part in value.items()
            if key not in NO_COST
        }
    if isinstance(value, list | tuple):
        return [_costing(part, ()) for part in value]
    return value
