"""Settings of the process, in a process of its own: threads that do not spin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def printed(code: str, *arguments: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=inherited | environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7"}])
def test_idle_threads_do_not_spin_unless_asked_to(given):
    found = printed("import ecr_bench, os; print(os.environ['GOMP_SPINCOUNT'])", **given)
    assert found == given.get("GOMP_SPINCOUNT", "0")
