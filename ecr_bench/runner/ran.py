"""The circumstances a stage ran in: times are compared only where these are the same."""

from __future__ import annotations

import datetime
import platform

from ecr_bench import __version__
from ecr_bench.config import Section
from ecr_bench.runner.provenance import cpu, gpu
from ecr_bench.stages.identity import Identity


class Ran(Section):
    """Where, when, how long and with what; ``done.json`` of every stage has it."""

    host: str
    """Name of the machine in its network."""
    cpu: str
    gpu: str | None
    device: str | None
    """``cpu`` or ``cuda``; None for a stage that cannot use a GPU."""
    threads: int
    """Of torch, for work on the CPU; 0 where torch was not used."""
    date: str
    """UTC, at the end."""
    seconds: float
    peak_memory: int | None = None
    """Bytes: of the GPU where it computed there, else of the process; None where an older version did not look."""
    ecr_bench: str
    python: str
    packages: dict[str, str | None]
    """The packages its code imports."""

    @property
    def hardware(self) -> str:
        """What times and memory are a property of, in words: stages that ran on equal hardware can be compared."""
        return self.gpu if self.device == "cuda" and self.gpu else f"{self.cpu}, {self.threads} threads"

    @classmethod
    def here(cls, seconds: float, identity: Identity, peak_memory: int) -> Ran:
        """For work that took ``seconds`` and ``peak_memory`` bytes and ends now."""
        threads = 0
        if identity.device is not None:
            import torch

            threads = torch.get_num_threads()
        return cls(
            host=platform.node(),
            cpu=cpu(),
            gpu=gpu() if identity.device == "cuda" else None,
            device=identity.device,
            threads=threads,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 2),
            peak_memory=peak_memory,
            ecr_bench=__version__,
            python=platform.python_version(),
            packages=dict(identity.packages),
        )
