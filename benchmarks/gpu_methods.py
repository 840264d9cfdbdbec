"""Cells for every registered method and modifier, as ``--set`` takes them: for gpu_check.sh."""

from __future__ import annotations

import json
from typing import Any

from ecr_bench.methods.registry import METHODS, MODIFIERS

NEEDS: dict[str, dict[str, Any]] = {
    # fitted again on the states of a model, which a projection that reads none cannot be
    "refresh": {"projection.kind": "hidden", "projection.options": {}, "control_tokens.from": "finetuning"},
}


def cells() -> list[dict[str, Any]]:
    """Each method by itself, plain fine-tuning in both sizes, and ECR with each modifier."""
    plain: list[dict[str, Any]] = [{"method": "finetune", "sizes": ["1x", "3x"]}]
    alone = [{"method": name} for name in METHODS if name != "finetune"]
    return plain + alone + [{"method": "ecr", "with": [name], "set": NEEDS.get(name, {})} for name in MODIFIERS]


if __name__ == "__main__":
    print(f"cells={json.dumps(cells())}")
