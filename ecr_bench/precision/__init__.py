"""Precisions a saved model can be loaded in: one ``load(folder, device)`` each, and their size in bytes."""

from __future__ import annotations

import logging

from ecr_bench.precision.measure import describe
from ecr_bench.registry import Registry

# bitsandbytes logs a cast on every call of a quantised layer and, on import, that an optional download is missing
for _name in ("autograd._functions", "backends.cpu.ops"):
    logging.getLogger(f"bitsandbytes.{_name}").setLevel(logging.ERROR)

PRECISIONS = Registry("precision")
PRECISIONS.add("fp32", "ecr_bench.precision.dense:load_fp32", "32-bit floats throughout")
PRECISIONS.add("bf16", "ecr_bench.precision.dense:load_bf16", "bfloat16 throughout")
PRECISIONS.add("int8", "ecr_bench.precision.quantised:load_int8", "LLM.int8 linear layers, the rest bfloat16")
PRECISIONS.add("nf4", "ecr_bench.precision.quantised:load_nf4", "NormalFloat4 linear layers, the rest bfloat16")

__all__ = ["PRECISIONS", "describe"]
