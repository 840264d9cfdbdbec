"""The engines there are. One is a callable that takes ``Wanted`` and gives a ``runner.engine.Engine``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from ecr_bench.errors import UserError
from ecr_bench.registry import Registry
from ecr_bench.runner.engine import Engine
from ecr_bench.runner.pool import Local


@dataclass(frozen=True)
class Wanted:
    """What the command line says of an engine beside its name."""

    workers: int | None = None
    """Stages at most side by side; None: as the engine sees fit."""
    address: str | None = None
    """Where its machines are asked for; None: at its usual place."""
    plugins: tuple[str, ...] = ()
    """Files, as given to ``--plugin``."""


def local(wanted: Wanted) -> Local:
    """Processes of this machine."""
    if wanted.address is not None:
        raise UserError(f"--address {wanted.address}: the engine local has none; give --engine ray as well")
    return Local(wanted.workers, wanted.plugins)


ENGINES = Registry(
    "engine",
    {
        "local": "ecr_bench.engines.registry:local",
        "ray": "ecr_bench.engines.ray_cluster:on_ray",
        "submitit": "ecr_bench.engines.slurm:on_slurm",
    },
    {"local": "processes of this machine", "ray": "a Ray cluster", "submitit": "jobs of Slurm"},
)


def engine_of(name: str, wanted: Wanted) -> Engine:
    """The engine called ``name``. UserError for an unknown one, or one that cannot be had like this."""
    ENGINES.check(name)
    check_workers(wanted.workers)
    engine: Engine = ENGINES.get(name)(wanted)
    return engine


def check_workers(workers: int | None) -> None:
    """UserError for a number of workers that does no work."""
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more")


def need(package: str, remedy: str) -> None:
    """UserError that says how to get the package of the engine of its name, where it is missing."""
    if find_spec(package) is None:
        raise UserError(f"--engine {package}: the package {package} is not installed: {remedy}")
