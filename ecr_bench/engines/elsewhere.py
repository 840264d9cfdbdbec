"""What engines share whose workers are on other machines: what travels there, and what is looked at first."""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecr_bench.io import cache_dir, fingerprint
from ecr_bench.names import STORE
from ecr_bench.plugin_files import PluginSource
from ecr_bench.plugins import load_plugins, load_source
from ecr_bench.runner.pool import DEVICES
from ecr_bench.runner.store import Store
from ecr_bench.runner.worker import Failed, Job, Message, Told, do
from ecr_bench.runner.workplace import MARKERS
from ecr_bench.stages.identity import Identity, identity_of
from ecr_bench.stages.stage import Stage

PATIENCE = 5.0
"""Seconds after which every machine sees what one has written: network file systems remember what was not there."""
TRAVELS = ("ECR_BENCH_", "HF_HUB_OFFLINE", "HF_ENDPOINT", "GOMP_SPINCOUNT")
"""Beginnings of the names of environment variables that hold for workers as well."""


@dataclass(frozen=True)
class Marker:
    """A token left in the store, by which a worker knows it from another one of the same name."""

    store: Store
    """With its full path."""
    token: str

    @property
    def path(self) -> Path:
        return self.store.root / STORE / MARKERS / self.token

    @property
    def in_folder(self) -> bool:
        """Whether it is in the folder of that name here."""
        with contextlib.suppress(OSError):
            return self.path.read_text() == self.token
        return False

    @property
    def seen(self) -> bool:
        """Whether it is there, after waiting up to ``PATIENCE`` seconds for it."""
        if self.store.remote is not None:
            return self.store.remote.marked(self.token)
        until = time.monotonic() + PATIENCE
        while not (found := self.in_folder) and time.monotonic() < until:
            time.sleep(0.2)
        return found

    @property
    def store_here(self) -> Store:
        """The store as this machine has it: one behind a URL has its copies in the cache, unless it shares a folder."""
        remote = self.store.remote
        if remote is None or self.in_folder:
            return self.store
        return Store(cache_dir() / "stores" / fingerprint(remote.url), remote)


@contextlib.contextmanager
def marked(store: Store) -> Iterator[Marker]:
    """The marker of ``store``, which is there inside."""
    token = secrets.token_hex(16)
    marker = Marker(replace(store, root=store.root.resolve()), token)
    marker.path.parent.mkdir(parents=True, exist_ok=True)
    marker.path.write_text(token)
    if store.remote is not None:
        store.remote.mark(token)
    try:
        yield marker
    finally:
        marker.path.unlink(missing_ok=True)
        if store.remote is not None:
            store.remote.unmark(token)


@dataclass(frozen=True)
class Surroundings:
    """What a worker elsewhere needs beside its jobs."""

    marker: Marker
    plugins: tuple[PluginSource, ...]
    folder: str
    """The current one, which names of files may be relative to."""
    environment: Mapping[str, str]

    @classmethod
    def here(cls, marker: Marker, plugins: Collection[str]) -> Surroundings:
        """That of this process."""
        environment = {name: value for name, value in os.environ.items() if name.startswith(TRAVELS)}
        return cls(marker, tuple(map(PluginSource.of, plugins)), str(Path.cwd()), environment)

    def enter(self) -> None:
        """Make this process a worker of the run."""
        os.environ.update(self.environment)
        with contextlib.suppress(OSError):  # a file that is then not found is named by the stage
            os.chdir(self.folder)
        load_plugins()
        for plugin in self.plugins:
            load_source(plugin)


def now_and_then(tell: Callable[[Told], None], pause: float) -> Callable[[Told], None]:
    """``tell`` for the first and the last word, and between them every ``pause`` seconds. What goes wrong with it is
    nothing to the stage."""
    last = 0.0

    def say(told: Told) -> None:
        nonlocal last
        if told.done in (0, told.total) or time.monotonic() - last >= pause:
            last = time.monotonic()
            with contextlib.suppress(Exception):
                tell(told)

    return say


def at_work(around: Surroundings, data: bytes, threads: int, gpus: int, tell: Callable[[Told], None]) -> Message:
    """Do a pickled job in this process, unless the store is not there."""
    os.environ.update(OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false")
    if not gpus:
        os.environ[DEVICES] = ""
    if not around.marker.seen:
        return Failed(not_shared(around.marker, platform.node()), final=True)

    def load() -> Job:
        around.enter()
        job: Job = pickle.loads(data)
        return replace(job, store=around.marker.store_here)

    return do(load, threads, tell)


def not_shared(marker: Marker, host: str) -> str:
    """One line with the remedy."""
    store = marker.store.remote.url if marker.store.remote else marker.store.root
    return (
        f"store {store} is not shared with worker on {host}: give an --out that lies on a file system of all machines, "
        "or --store with a URL"
    )


@dataclass(frozen=True)
class Sample:
    """A stage of each kind, with the identity it was planned with: what a worker must have as it was planned."""

    stages: tuple[tuple[Stage[Any], Identity], ...]

    @classmethod
    def of(cls, stages: Collection[Stage[Any]]) -> Sample:
        kinds = {stage.kind: stage for stage in stages}
        return cls(tuple((stage, stage.identity) for stage in kinds.values()))

    @property
    def needs_gpu(self) -> bool:
        return any(planned.device == "cuda" for _, planned in self.stages)


def look(around: Surroundings, data: bytes, gpus: int) -> str:
    """What keeps this machine from working on a run whose ``Sample`` is pickled in ``data``; empty for nothing."""
    host = platform.node()
    if not gpus:
        os.environ[DEVICES] = ""
    if not around.marker.seen:
        return not_shared(around.marker, host)
    around.enter()
    sample: Sample = pickle.loads(data)
    found: dict[str, None] = {}
    for stage, planned in sample.stages:
        found |= dict.fromkeys(planned.differences(identity_of(stage.work, stage.settings, stage.inputs)))
    if not found:
        return ""
    shown = ", ".join(list(found)[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return f"worker on {host} is not as this machine: {shown}; install the same versions there"
