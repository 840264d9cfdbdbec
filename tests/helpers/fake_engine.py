"""An engine that does each job at once in this process: for tests of what is around engines."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ecr_bench.runner.engine import Died, Resources, check_gpus
from ecr_bench.runner.worker import Job, Message, Told, do


@dataclass(eq=False)
class AtOnce:
    """``engine.Workers``. A stage whose label is in ``dies`` loses its process as many times."""

    size: int = 2
    dies: dict[str, int] = field(default_factory=dict)
    gpus: int = 0
    with_node: bool = False
    """Whether its machine goes along."""
    submitted: list[str] = field(default_factory=list)
    asked: list[Resources] = field(default_factory=list)
    """What each of ``submitted`` takes."""
    most: int = 0
    _said: list[tuple[str, Message | Died]] = field(default_factory=list)

    @property
    def running(self) -> set[str]:
        return {stage_id for stage_id, _ in self._said}

    def fits(self, resources: Resources) -> bool:
        return len(self.running) < self.size

    def submit(self, job: Job, resources: Resources) -> None:
        label, stage_id = job.stage.label, job.planned.stage_id
        assert stage_id not in self.running and self.fits(resources)
        self.submitted.append(label)
        self.asked.append(resources)
        if self.dies.get(label, 0):
            self.dies[label] -= 1
            self._said.append((stage_id, Died("its process was lost", self.with_node)))
        else:
            told: list[Told] = []
            message = do(lambda: job, 1, told.append)
            self._said += [*((stage_id, one) for one in told), (stage_id, message)]
        self.most = max(self.most, len(self.running))

    def messages(self, timeout: float) -> Iterator[tuple[str, Message | Died]]:
        said, self._said = self._said, []
        yield from said

    def cancel(self, stage_id: str) -> None:
        self._said = [one for one in self._said if one[0] != stage_id]


@dataclass(frozen=True)
class Fake:
    """``engine.Engine``."""

    workers: AtOnce = field(default_factory=AtOnce)
    here: int = 1

    @contextlib.contextmanager
    def open(self, stages: Collection, store) -> Iterator[AtOnce]:
        check_gpus(stages, self.workers.gpus, "this fake")
        yield self.workers
