"""The stages of a run that are at work on a Ray cluster."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Iterator
from typing import Any

from ecr_bench.engines.elsewhere import Surroundings, at_work, now_and_then
from ecr_bench.runner.engine import Died, Resources
from ecr_bench.runner.worker import Failed, Job, Message, Told

PAUSE = 0.5
"""Seconds between two words of one stage on its progress."""


class ProgressBoard:
    """An actor on which stages write how far they are."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}

    def tell(self, stage_id: str, told: Told) -> None:
        self.told[stage_id] = told

    def take(self) -> dict[str, Told]:
        """What is new."""
        taken, self.told = self.told, {}
        return taken


def perform_on_ray(around: Surroundings, data: bytes, threads: int, gpus: int, stage_id: str, board: Any) -> Message:
    """The task: a pickled job, done on whatever node it was sent to."""

    def tell(told: Told) -> None:
        board.tell.remote(stage_id, told)  # it may be lost with its node

    return at_work(around, data, threads, gpus, now_and_then(tell, PAUSE))


class Tasks:
    """``engine.Workers``: up to ``size`` tasks, each with ``threads`` of torch; the cluster finds their place.

    ``most``: bytes of memory that the largest node offers. What would take more is given all of it, and not left to
    wait for a node that never comes.
    """

    def __init__(self, around: Surroundings, size: int, threads: int, most: int):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

        self._around, self._size, self._threads, self._most = around, size, threads, most
        self._task = ray.remote(perform_on_ray)
        beside = At(ray.get_runtime_context().get_node_id(), soft=True)
        board: Any = ray.remote(ProgressBoard)
        self._board = board.options(num_cpus=0, scheduling_strategy=beside).remote()
        self._told: Any = None
        """What was asked of the board."""
        self._running: dict[Any, str] = {}

    @property
    def running(self) -> set[str]:
        return set(self._running.values())

    def fits(self, resources: Resources) -> bool:
        return len(self._running) < self._size

    def submit(self, job: Job, resources: Resources) -> None:
        stage_id = job.planned.stage_id
        threads = max(self._threads, resources.cpus)
        memory = min(resources.memory, self._most) or None
        asked = {"num_cpus": threads, "num_gpus": resources.gpus, "memory": memory}
        task = self._task.options(**asked, max_retries=0, name=job.stage.label)
        ref = task.remote(self._around, pickle.dumps(job), threads, resources.gpus, stage_id, self._board)
        self._running[ref] = stage_id

    def messages(self, timeout: float) -> Iterator[tuple[str, Message | Died]]:
        import ray

        if self._running:
            ray.wait(list(self._running), num_returns=1, timeout=timeout, fetch_local=False)
        yield from self._progress()
        ended, _ = (
            ray.wait(list(self._running), num_returns=len(self._running), timeout=0) if self._running else ([], [])
        )
        for ref in ended:
            stage_id = self._running.pop(ref)
            yield stage_id, outcome(ref)

    def _progress(self) -> Iterator[tuple[str, Told]]:
        """Asked for once and looked at when it is there: a board that is slow holds nothing up."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            if self._told is None:
                self._told = self._board.take.remote()
            ready, _ = ray.wait([self._told], timeout=0)
            if ready:
                asked, self._told = self._told, None
                yield from ((name, told) for name, told in ray.get(asked).items() if name in self.running)

    def cancel(self, stage_id: str) -> None:
        import ray

        for ref in [ref for ref, name in self._running.items() if name == stage_id]:
            del self._running[ref]
            ray.cancel(ref, force=True)

    def close(self) -> None:
        """End what is at work; a cluster that is gone already is no error."""
        ending = threading.Thread(target=self._end_all, daemon=True)
        ending.start()
        ending.join(10)

    def _end_all(self) -> None:
        with contextlib.suppress(Exception):
            for stage_id in self.running:
                self.cancel(stage_id)


def outcome(ref: Any) -> Message | Died:
    """What a task that has ended said, or how it was lost."""
    import ray
    from ray import exceptions as lost

    try:
        message: Message = ray.get(ref)
    except lost.OutOfMemoryError:
        return Died("its process was ended by Ray (out of memory)")
    except lost.NodeDiedError:
        return Died("the node it ran on was lost", with_node=True)
    except lost.WorkerCrashedError:
        return Died("its process was ended, or its node was lost")
    except (lost.TaskUnschedulableError, lost.ObjectLostError, lost.LocalRayletDiedError) as error:
        return Died(f"the node it ran on was lost ({type(error).__name__})", with_node=True)
    except Exception as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        return Failed(f"{type(error).__name__}: {said[-1] if said else ''}", trace=str(error))
    return message
