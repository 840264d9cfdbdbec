"""ecr-bench: does Embedding Consistency Regulation (arXiv 2601.00543) let a 1x model beat a 3x one?

Importing this package registers the scoring class with lm-eval under the name ``ecr-hf``.
"""

from __future__ import annotations

import os

# libgomp's spinning threads waste a busy machine; it must be set before torch is imported
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# lm-eval fills an empty registry on first use: entering our name first would hide its own models
import lm_eval.models  # noqa: F401
from lm_eval.api.registry import model_registry

__version__ = "0.1.0"

if "ecr-hf" not in model_registry:
    model_registry.register("ecr-hf", target="ecr_bench.evaluation.lm:EcrLM")
