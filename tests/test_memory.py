"""Settings of the process: threads that do not spin, and memory that is used again. In processes of their own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

BLOCKS = """
import resource, sys, torch
from ecr_bench.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for _ in range(10):
        torch.ones(10_000_000)  # glibc keeps none of over 32 MB by itself
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def printed(code: str, *arguments: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=inherited | environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc only")
def test_freed_memory_is_used_again():
    """Page faults: each block's pages are mapped again and again, or once."""
    again, kept = (int(printed(BLOCKS, how)) for how in ("leave", "keep"))
    assert again > 1000 and kept < again / 20


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7"}])
def test_idle_threads_do_not_spin_unless_asked_to(given):
    found = printed("import ecr_bench, os; print(os.environ['GOMP_SPINCOUNT'])", **given)
    assert found == given.get("GOMP_SPINCOUNT", "0")
