"""ecr-bench: does Embedding Consistency Regulation (arXiv 2601.00543) let a 1x model beat a 3x one?

    import ecr_bench as eb

    run = eb.Run.load("runs/quick")
    run.compare("ecr-1x", "finetune-3x")

Importing this package registers the scoring class with lm-eval under the name ``ecr-hf``; everything else is imported
when it is first asked for.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# libgomp's spinning threads waste a busy machine; it must be set before torch is imported
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# lm-eval fills an empty registry on first use: entering our name first would hide its own models
import lm_eval.models  # noqa: F401
from lm_eval.api.registry import model_registry

if TYPE_CHECKING:
    from ecr_bench.arm import Arm, Role
    from ecr_bench.bundle.use import open_bundle
    from ecr_bench.config import Experiment, load
    from ecr_bench.corpora.registry import CORPORA
    from ecr_bench.errors import UserError
    from ecr_bench.items.registry import TASKS
    from ecr_bench.methods.registry import METHODS, MODIFIERS
    from ecr_bench.metrics.registry import METRICS
    from ecr_bench.run import Run
    from ecr_bench.teachers.registry import TEACHERS

__version__ = "0.1.0"

__all__ = [
    "CORPORA",
    "METHODS",
    "METRICS",
    "MODIFIERS",
    "TASKS",
    "TEACHERS",
    "Arm",
    "Experiment",
    "Role",
    "Run",
    "UserError",
    "load",
    "open_bundle",
]

_HOMES = {
    "CORPORA": "corpora.registry",
    "METHODS": "methods.registry",
    "METRICS": "metrics.registry",
    "MODIFIERS": "methods.registry",
    "TASKS": "items.registry",
    "TEACHERS": "teachers.registry",
    "Arm": "arm",
    "Experiment": "config",
    "Role": "arm",
    "Run": "run",
    "UserError": "errors",
    "load": "config",
    "open_bundle": "bundle.use",
}

if "ecr-hf" not in model_registry:
    model_registry.register("ecr-hf", target="ecr_bench.evaluation.lm:EcrLM")


def __getattr__(name: str) -> Any:
    """A public name, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ecr_bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ecr_bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
