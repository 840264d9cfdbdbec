"""What runs the stages of a plan: the interface that every engine has, and what a stage asks of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ecr_bench.errors import UserError
from ecr_bench.formats import many
from ecr_bench.runner.store import Store
from ecr_bench.runner.worker import Job, Message
from ecr_bench.stages.stage import Stage

MEMORY_MARGIN = 1.25
"""What a stage is given of memory over the peak that was measured: where it takes more it may be ended."""


@dataclass(frozen=True)
class Resources:
    """What a stage takes while it runs."""

    cpus: int = 1
    """Cores, at least."""
    gpus: int = 0
    memory: int = 0
    """Bytes of main memory; 0: not known."""


def resources_of(stage: Stage[Any], peak: int = 0) -> Resources:
    """What it computes on together: GPUs for a stage that uses any, else a core for each process.

    Args:
        peak: bytes of main memory that such a stage took when it was measured; 0: not known.
    """
    count = stage.work.devices(stage.settings)
    gpus = count if stage.identity.device == "cuda" else 0
    return Resources(cpus=count, gpus=gpus, memory=math.ceil(peak * MEMORY_MARGIN))


def check_gpus(stages: Collection[Stage[Any]], most: int, where: str) -> None:
    """UserError where a stage takes more than the ``most`` GPUs that one machine of ``where`` has."""
    for stage in stages:
        if (asked := resources_of(stage).gpus) > most:
            raise UserError(
                f"{stage.label}: takes {many(asked, 'GPU')}, {where} has {most}: ask for fewer "
                "(devices.count of its size), or run it where there are as many (--engine, --address)"
            )


@dataclass(frozen=True)
class Died:
    """The process of a stage ended before the stage did."""

    how: str
    """In words: by which signal, with which exit code, or with the node it ran on."""
    with_node: bool = False
    """Whether the machine it ran on is gone, for which no stage is to blame."""


class Workers(Protocol):
    """What is at work for one run. Leaving the block that an engine opened it with ends all of it."""

    @property
    def running(self) -> Collection[str]:
        """Ids of the stages that were submitted and have not ended."""
        ...

    def fits(self, resources: Resources) -> bool:
        """Whether a stage that takes these can be submitted now."""
        ...

    def submit(self, job: Job, resources: Resources) -> None:
        """Start a job that ``fits`` and is none of ``running``."""
        ...

    def messages(self, timeout: float) -> Iterator[tuple[str, Message | Died]]:
        """What the stages at work have said, by id, after waiting up to ``timeout`` seconds for something."""
        ...

    def cancel(self, stage_id: str) -> None:
        """End a stage of ``running``, of which nothing more is heard; nothing for any other."""
        ...


class Engine(Protocol):
    """Where stages run."""

    @property
    def here(self) -> int | None:
        """Stages at most side by side on this machine, whose speed and memory are known; None for other machines."""
        ...

    def open(self, stages: Collection[Stage[Any]], store: Store) -> AbstractContextManager[Workers]:
        """Workers for these stages. UserError for what one of them asks and this place has not."""
        ...
