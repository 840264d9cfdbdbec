"""Stages as jobs of Slurm, for sites that have nothing else; submitit writes and watches them.

A job outlives the run that submitted it, until its stage is done: another run finds the stage made, or being made.
Partition, account and time limit come from Slurm's own variables (``SBATCH_PARTITION``, ``SBATCH_TIMELIMIT``).
"""

from __future__ import annotations

import contextlib
import math
import pickle
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecr_bench.engines.elsewhere import Surroundings, at_work, marked, now_and_then
from ecr_bench.engines.registry import Wanted, need
from ecr_bench.errors import UserError, unknown
from ecr_bench.io import read_json, write_json
from ecr_bench.runner.engine import Died, Resources
from ecr_bench.runner.store import Store
from ecr_bench.runner.worker import Failed, Job, Message, Told
from ecr_bench.stages.stage import Stage

CLUSTERS = ("slurm", "local", "debug")
"""What ``--address`` may say: Slurm, processes of this machine, or this very process, to try things out."""
MOST_MINUTES = 3 * 24 * 60
"""What a job asks for where ``SBATCH_TIMELIMIT`` says nothing."""
PAUSE = 2.0
"""Seconds between two words of one stage on its progress."""


def on_slurm(wanted: Wanted) -> OnSlurm:
    """Jobs of Slurm. UserError where submitit or Slurm is not installed."""
    need("submitit", "pip install 'ecr-bench[submitit]'")
    cluster = wanted.address or "slurm"
    if cluster not in CLUSTERS:
        raise unknown("--address of engine submitit", cluster, CLUSTERS)
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise UserError("--engine submitit: there is no sbatch on this machine: run it where Slurm jobs are submitted")
    return OnSlurm(wanted, cluster)


@dataclass(frozen=True)
class OnSlurm:
    wanted: Wanted
    cluster: str
    here: None = None
    """Jobs run wherever Slurm puts them."""

    @contextlib.contextmanager
    def open(self, stages: Collection[Stage[Any]], store: Store) -> Iterator[Jobs]:
        """``engine.Engine.open``. Whether the machines see the store shows when the first job runs."""
        with marked(store) as marker:
            folder = marker.path.with_suffix(".jobs")
            jobs = Jobs(
                Surroundings.here(marker, self.wanted.plugins), folder, self.cluster, self.wanted.workers or len(stages)
            )
            try:
                yield jobs
            finally:
                for stage_id in list(jobs.running):
                    jobs.cancel(stage_id)
                shutil.rmtree(folder, ignore_errors=True)


def perform_as_job(around: Surroundings, data: bytes, threads: int, gpus: int, progress: Path) -> Message:
    """What a job does."""

    def tell(told: Told) -> None:
        write_json(progress, [told.done, told.total])

    return at_work(around, data, threads, gpus, now_and_then(tell, PAUSE))


@dataclass(eq=False)
class Jobs:
    """``engine.Workers``: up to ``size`` jobs, queued or at work."""

    around: Surroundings
    folder: Path
    cluster: str
    size: int
    _jobs: dict[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> set[str]:
        return set(self._jobs)

    def fits(self, resources: Resources) -> bool:
        return len(self._jobs) < self.size

    def submit(self, job: Job, resources: Resources) -> None:
        import submitit

        executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        asked = {"cpus_per_task": resources.cpus, "gpus_per_node": resources.gpus, "timeout_min": MOST_MINUTES}
        if resources.memory:
            asked["mem_gb"] = math.ceil(resources.memory / 2**30)
        executor.update_parameters(name="ecr-bench", slurm_use_srun=False, **asked)
        stage_id = job.planned.stage_id
        told = self._told(stage_id)
        self._jobs[stage_id] = executor.submit(
            perform_as_job, self.around, pickle.dumps(job), resources.cpus, resources.gpus, told
        )

    def _told(self, stage_id: str) -> Path:
        return self.folder / f"{stage_id.replace('/', '-')}.json"

    def messages(self, timeout: float) -> Iterator[tuple[str, Message | Died]]:
        until = time.monotonic() + timeout
        while not (ended := [name for name, job in self._jobs.items() if job.done()]) and time.monotonic() < until:
            time.sleep(min(0.1, timeout))
        for stage_id in self.running - set(ended):
            with contextlib.suppress(OSError, UserError):
                yield stage_id, Told(*read_json(self._told(stage_id)))
        for stage_id in ended:
            yield stage_id, _outcome(self._jobs.pop(stage_id))

    def cancel(self, stage_id: str) -> None:
        if job := self._jobs.pop(stage_id, None):
            job.cancel(check=False)


def _outcome(job: Any) -> Message | Died:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        message: Message = job.result()
    except FailedJobError as error:
        said = [line for line in str(error).splitlines() if line.strip()]
        return Failed(said[-1] if said else type(error).__name__, trace=str(error))
    except UncompletedJobError:
        return Died(f"its job {job.job_id} ended without a result ({job.state})")
    return message
