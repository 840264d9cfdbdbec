"""All methods and modifiers, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations
from typing import Any

from ecr_bench.arm import Role
from ecr_bench.options import NoOptions, defaults_of, options_of
from ecr_bench.registry import Registry

METHODS = Registry(
    "method",
    {
        "finetune": "ecr_bench.methods.finetune:Finetune",
        "ecr": "ecr_bench.methods.ecr:Ecr",
        "random": "ecr_bench.methods.controls:Random",
        "constant": "ecr_bench.methods.controls:Constant",
        "language": "ecr_bench.methods.controls:Language",
        "shuffled": "ecr_bench.methods.controls:Shuffled",
        "oracle": "ecr_bench.methods.controls:Oracle",
        "codes-only": "ecr_bench.methods.controls:CodesOnly",
        "teacher-probe": "ecr_bench.methods.controls:TeacherProbe",
        "soft-cue": "ecr_bench.methods.soft_cue:SoftCue",
        "relational": "ecr_bench.methods.relational:Relational",
        "embedding-distillation": "ecr_bench.methods.embedding_distillation:EmbeddingDistillation",
        "teacher-init": "ecr_bench.methods.teacher_init:TeacherInit",
    },
)

SHIPPED = tuple(METHODS)
"""Without those of plugins."""

MODIFIERS = Registry(
    "modifier",
    {
        "stand-in": "ecr_bench.methods.stand_in:StandIn",
        "dropout": "ecr_bench.methods.dropout:Dropout",
        "refresh": "ecr_bench.methods.refresh:Refresh",
        "distill": "ecr_bench.methods.distill:Distill",
        "lora": "ecr_bench.methods.lora:Lora",
        "fusion": "ecr_bench.methods.fusion:Fusion",
    },
)
"""In the order in which they are applied: what changes rows, then the loss, then the weights, then the answer."""


def role_of(method: str) -> Role:
    """The role that the class of ``method`` states for itself."""
    role: Role = METHODS.get(method).role
    return role


def default_options(owner: str) -> dict[str, Any]:
    """Options of a method or modifier where nobody sets them, as plain JSON; none of a plugin's that is not loaded."""
    registries = (registry for registry in (METHODS, MODIFIERS) if owner in registry)
    return dict(defaults_of(next((options_of(registry.get(owner)) for registry in registries), NoOptions)))


def recipe_names() -> Iterator[str]:
    """Each method alone and with each set of modifiers, as ``Arm.name`` has them; not all of these go together."""
    modifiers = list(MODIFIERS)
    sets = list(chain.from_iterable(combinations(modifiers, count) for count in range(len(modifiers) + 1)))
    return ("+".join((method, *chosen)) for method in METHODS for chosen in sets)
