"""One switch: everything the plain way."""

from __future__ import annotations

import os

from ecr_bench.errors import UserError

VARIABLE = "ECR_BENCH_PLAIN"


def plain() -> bool:
    """Whether ``ECR_BENCH_PLAIN`` asks for the plain twin of every piece: 1 does, 0 or nothing does not."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise UserError(f"{VARIABLE}={value}: allowed are 0 and 1")
    return value == "1"
