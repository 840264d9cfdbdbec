"""The hardware a time is a property of."""

from __future__ import annotations

import platform

from ecr_bench.runner.provenance import cpu, gpu
from ecr_bench.runner.ran import Ran
from ecr_bench.section import Section


class Hardware(Section):
    """Two machines that are equal in this take equally long, as far as it is known."""

    host: str
    cpu: str
    cores: int
    """Usable ones."""
    gpu: str | None
    memory: int
    """Bytes that models can have: of the GPU where there is one, else of the machine or its container."""

    @classmethod
    def here(cls) -> Hardware:
        from ecr_bench.memory import model_memory
        from ecr_bench.teachers.base import usable_cores

        return cls(host=platform.node(), cpu=cpu(), cores=usable_cores(), gpu=gpu(), memory=model_memory())

    def made(self, ran: Ran) -> bool:
        """Whether a stage ran on it."""
        return (ran.host, ran.cpu) == (self.host, self.cpu) and (ran.device != "cuda" or ran.gpu == self.gpu)

    def __str__(self) -> str:
        return self.gpu or f"{self.cpu}, {self.cores} cores"
