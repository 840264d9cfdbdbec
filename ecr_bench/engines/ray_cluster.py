"""Stages as tasks of a Ray cluster: one of this machine's own, or one that is there (``--address``).

The cluster sees to places and cores; order, retries and what is made are the schedule's and the store's, as on one
machine. A task ends with its run: Ray ends the tasks of a driver that is gone, and the locks of the store go with them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ecr_bench.engines.elsewhere import Sample, Surroundings, look, marked
from ecr_bench.engines.ray_tasks import Tasks
from ecr_bench.engines.registry import Wanted, need
from ecr_bench.errors import UserError
from ecr_bench.runner.engine import check_gpus
from ecr_bench.runner.store import Store
from ecr_bench.stages.stage import Stage
from ecr_bench.teachers.base import usable_cores

ANSWERS = 3.0
"""Seconds in which a cluster answers that is there."""
LOOKS = 120.0
"""Seconds in which a node has started a worker and looked at what is installed there."""
OBJECTS = 100 * 2**20
"""Bytes of Ray's object store in a cluster of our own: stages hand each other files."""
START_WAIT = "120"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a connection of HTTP/2, which Ray speaks, begins; the answer is a frame of the same type, 4."""


def on_ray(wanted: Wanted) -> OnRay:
    """A Ray cluster. UserError where Ray is not installed, or none answers at the address."""
    need("ray", "pip install 'ecr-bench[ray]'")
    if wanted.address is not None:
        check_address(wanted.address)
    return OnRay(wanted)


@dataclass(frozen=True)
class OnRay:
    wanted: Wanted

    @property
    def here(self) -> int | None:
        return None if self.wanted.address else self.wanted.workers or usable_cores()

    @contextlib.contextmanager
    def open(self, stages: Collection[Stage[Any]], store: Store) -> Iterator[Tasks]:
        """``engine.Engine.open``. UserError as well where a node does not see the store or has other code."""
        with _connected(self.wanted.address), marked(store) as marker:
            around = Surroundings.here(marker, self.wanted.plugins)
            nodes = _nodes()
            check_gpus(stages, int(max(node.gpus for node in nodes)), "the largest node of the cluster")
            _look_at(nodes, around, Sample.of(stages))
            cpus = sum(node.cpus for node in nodes)
            workers = self.wanted.workers or int(cpus)
            threads = max(1, int(min(cpus // workers, max(node.cpus for node in nodes))))
            memory = max(node.memory for node in nodes)
            tasks = Tasks(around, min(workers, len(stages)), threads, memory)
            try:
                yield tasks
            finally:
                tasks.close()


@dataclass(frozen=True)
class _Node:
    id: str
    host: str
    cpus: float
    gpus: float
    memory: int
    """Bytes that Ray gives away there."""


def _nodes() -> list[_Node]:
    """Those that are there and have a core. UserError where none has."""
    import ray

    found = []
    for node in ray.nodes():
        resources = node["Resources"]
        if node["Alive"] and resources.get("CPU", 0) >= 1:
            host = node.get("NodeManagerHostname") or node["NodeManagerAddress"]
            memory = int(resources.get("memory", 0))
            found.append(_Node(node["NodeID"], host, resources["CPU"], resources.get("GPU", 0), memory))
    if not found:
        raise UserError("--engine ray: no node of the cluster has a core to work with: start one with ray start")
    return found


def _look_at(nodes: Collection[_Node], around: Surroundings, sample: Sample) -> None:
    """UserError naming the first node that cannot work on the run, and what differs there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

    data = pickle.dumps(sample)
    task = ray.remote(look)
    asked = {}
    for node in nodes:
        gpus = int(sample.needs_gpu and node.gpus >= 1)
        if sample.needs_gpu and not gpus:
            continue  # what it has no GPU for is not planned there
        there = task.options(num_cpus=0, num_gpus=gpus, max_retries=0, scheduling_strategy=At(node.id, soft=False))
        asked[there.remote(around, data, gpus)] = node
    for answer, node in asked.items():
        try:
            said = ray.get(answer, timeout=LOOKS)
        except UserError as error:
            said = f"worker on {node.host}: {error}"
        except Exception as error:
            reason = str(error).strip().splitlines()[-1:] or [""]
            said = (
                f"worker on {node.host} cannot start: {type(error).__name__}: {reason[0]}; install ecr-bench and its "
                "plugins there as they are here"
            )
        if said:
            raise UserError(said)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Ray is there inside: the cluster at ``address``, or one of this machine's own that ends with the block."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", START_WAIT)  # a busy machine takes longer than Ray waits
    import ray

    own: dict[str, Any] = {"num_cpus": usable_cores(), "include_dashboard": False, "object_store_memory": OBJECTS}
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **({} if address else own))
    except Exception as error:
        raise UserError(f"{_where(address)}: {_reason(error)}") from None
    try:
        for name, handler in handlers.items():
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(name, handler)  # Ray has put its own in place
        yield
    finally:
        ray.shutdown()


def _where(address: str | None) -> str:
    return "--engine ray" if address is None else f"--address {address}"


def _reason(error: Exception) -> str:
    """In one line, with the remedy where it is known."""
    said = " ".join(str(error).split())
    if "ersion mismatch" in said:
        return f"the cluster has other versions: {said}; install the same Ray and Python here and there"
    if isinstance(error, ConnectionError):
        return "no Ray cluster answers there; start one with 'ray start --head', or leave out --address"
    return f"{type(error).__name__}: {said}"


def check_address(address: str) -> None:
    """UserError where nothing that speaks as Ray does answers at ``HOST:PORT`` or ``ray://HOST:PORT``; ``auto`` is
    looked for later."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"--address {address}: must be HOST:PORT, ray://HOST:PORT or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS) as connection:
            connection.settimeout(ANSWERS)
            connection.sendall(_HELLO)
            answer = connection.recv(9)
    except OSError as error:
        raise UserError(f"--address {address}: {_reason(ConnectionError())} ({error.strerror or error})") from None
    if len(answer) < 4 or answer[3] != 4:
        raise UserError(
            f"--address {address}: what answers there is no Ray cluster: give the one of its head (ray status)"
        )
