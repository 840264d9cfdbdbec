"""Run the stages of a plan on an engine.

Stages that do not depend on each other run side by side. A stage that is done is never run again, one that another run
is at is left to that, and one that fails takes only what rests on it along.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from ecr_bench import scratch
from ecr_bench.divergence import DivergedError
from ecr_bench.errors import UserError
from ecr_bench.runner.clean import keep_below
from ecr_bench.runner.display import Display
from ecr_bench.runner.engine import Died, Engine, Resources, Workers, resources_of
from ecr_bench.runner.failures import Failures
from ecr_bench.runner.store import Store
from ecr_bench.runner.worker import Busy, Finished, Job, Message, Told
from ecr_bench.stages.stage import Stage

Left = Callable[[str, Collection[str]], str]
"""Called with a stage that was made and those that are missing; what it says is shown."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at a stage that another run is at."""
MOST_NODES = 4
"""Machines that may be lost under a stage."""


def critical_path(stages: Mapping[str, Stage[Any]]) -> dict[str, float]:
    """For each stage, its cost plus that of the dearest chain of stages that wait for it; endless for urgent ones."""
    waiting: dict[str, list[str]] = {stage_id: [] for stage_id in stages}
    for stage in stages.values():
        for needed in stage.inputs.values():
            waiting[needed].append(stage.id)
    length: dict[str, float] = {}

    def visit(stage_id: str) -> float:
        if stage_id not in length:
            own = math.inf if stages[stage_id].work.urgent else stages[stage_id].cost
            length[stage_id] = own + max(map(visit, waiting[stage_id]), default=0.0)
        return length[stage_id]

    for stage_id in stages:
        visit(stage_id)
    return length


def execute(
    stages: Mapping[str, Stage[Any]],
    store: Store,
    console: Console,
    engine: Engine,
    whole: bool = False,
    most: int | None = None,
    left: Left | None = None,
    peaks: Mapping[str, int] | None = None,
) -> Failures:
    """Run what is not done yet, and what is damaged anew.

    Args:
        whole: look at every byte of what is done.
        most: bytes that the store may hold.
        left: says after each stage how much time is left.
        peaks: bytes of main memory that a stage will take, by id, where it is known.

    A stage that fails ends neither the run nor the others: what rests on it is left out, and the answer says why.
    UserError where nothing could be written any more, or code changed under the run.
    """
    store.sweep()
    scratch.sweep()
    store.exchange(stages)
    missing = _missing(stages, store, console, whole)
    console.print(f"{len(stages)} stages: {len(stages) - len(missing)} cached, {len(missing)} to run")
    if cached := Counter(stage.kind for stage_id, stage in stages.items() if stage_id not in missing):
        console.print("[dim]cached: " + ", ".join(f"{kind} ({count})" for kind, count in cached.items()) + "[/]")
    failures = Failures(stages, store.root)
    if not missing:
        return failures
    display = Display(console, dict(stages), len(stages) - len(missing))
    try:
        with display.progress, engine.open(list(missing.values()), store) as workers:
            _Schedule(stages, missing, store, workers, display, failures, most, left, peaks or {}).run()
    finally:
        scratch.sweep()
        store.sweep()  # what workers that died had half made is nobody's
    return failures


def _missing(stages: Mapping[str, Stage[Any]], store: Store, console: Console, whole: bool) -> dict[str, Stage[Any]]:
    """Stages to run. What is damaged is set aside, and said."""
    missing = {stage_id: stage for stage_id, stage in stages.items() if not store.done(stage_id)}
    looked_at: dict[str, bool] = {}
    while True:  # what has to be made anew reads more
        read = {needed for stage in missing.values() for needed in stage.inputs.values()}
        ends = stages.keys() - {needed for stage in stages.values() for needed in stage.inputs.values()}
        found = {stage_id: whole or stage_id in read | ends for stage_id in stages if stage_id not in missing}
        fresh = {stage_id: all_of_it for stage_id, all_of_it in found.items() if looked_at.get(stage_id) != all_of_it}
        if not fresh:
            return {stage_id: stage for stage_id, stage in stages.items() if stage_id in missing}
        for stage_id, all_of_it in fresh.items():
            looked_at[stage_id] = all_of_it
            if damage := store.damage(stage_id, all_of_it):
                line = f"{damage}; {store.set_aside(stage_id)}"
                console.print(escape(line), highlight=False, soft_wrap=True)
                missing[stage_id] = stages[stage_id]


class _Schedule:
    """Keeps the workers of an engine at work, on the stage with the longest way ahead first."""

    def __init__(
        self,
        stages: Mapping[str, Stage[Any]],
        missing: dict[str, Stage[Any]],
        store: Store,
        workers: Workers,
        display: Display,
        failures: Failures,
        most: int | None,
        left: Left | None,
        peaks: Mapping[str, int],
    ):
        self.store, self.workers, self.display, self.failures = store, workers, display, failures
        self.most, self.left, self.peaks = most, left, peaks
        self.missing = missing
        """Not done and not given up."""
        self.elsewhere: dict[str, float] = {}
        """At work in another run -> when to look again."""
        self.alone: deque[str] = deque()
        """To be tried once more with nothing beside them."""
        self.retried: set[str] = set()
        self.nodes_lost: Counter[str] = Counter()
        order = critical_path(stages)
        self.by_urgency = sorted(missing, key=lambda stage_id: -order[stage_id])

    def run(self) -> None:
        while self.missing:
            self._drop_hopeless()
            self._start()
            if not self.workers.running:
                time.sleep(LOOK_AGAIN / 5)
            for stage_id, message in self.workers.messages(timeout=0.2):
                self._hear(stage_id, message)

    def _drop_hopeless(self) -> None:
        """What rests on a failure is not made."""
        for stage_id in list(self.missing):
            if self.failures and self.failures.behind(stage_id):
                del self.missing[stage_id]

    def _start(self) -> None:
        """Submit what fits. Who must be alone waits for the others, and no other starts meanwhile."""
        if self.alone:
            if not self.workers.running:
                self._submit(self.alone[0])
            return
        for stage_id in self.by_urgency:
            if self._ready(stage_id):
                if not self.workers.fits(self._resources(stage_id)):
                    return  # nothing less urgent goes first, or what takes much would wait for ever
                self._submit(stage_id)

    def _ready(self, stage_id: str) -> bool:
        if stage_id not in self.missing or stage_id in self.workers.running:
            return False
        if any(needed in self.missing for needed in self.missing[stage_id].inputs.values()):
            return False
        if self.elsewhere.get(stage_id, 0.0) > time.monotonic():
            return False
        if stage_id in self.elsewhere and self.store.obtain(stage_id):
            self._made(stage_id)
            return False
        return True

    def _submit(self, stage_id: str) -> None:
        if self.most is not None:
            keep_below(self.store, self.most)
        stage = self.missing[stage_id]
        self.workers.submit(Job(stage, stage.identity, self.store), self._resources(stage_id))

    def _resources(self, stage_id: str) -> Resources:
        return resources_of(self.missing[stage_id], self.peaks.get(stage_id, 0))

    def _hear(self, stage_id: str, message: Message | Died) -> None:
        if isinstance(message, Told):
            self.display.update(stage_id, message.done, message.total)
            return
        if stage_id in self.alone:
            self.alone.remove(stage_id)
        if isinstance(message, Finished):
            self._made(stage_id)
        elif isinstance(message, Busy):
            if stage_id not in self.elsewhere:
                self.display.note(stage_id, "another run is at it")
            self.elsewhere[stage_id] = time.monotonic() + LOOK_AGAIN
            self.display.drop(stage_id)
        elif isinstance(message, Died) and message.with_node:
            self._elsewhere_again(stage_id, message.how)
        elif isinstance(message, Died):
            self._again(stage_id, message.how)
        elif message.final:
            raise UserError(message.reason)
        elif message.memory:
            self._again(stage_id, message.reason, message.trace)
        else:
            self._failed(stage_id, message.reason, message.trace)

    def _made(self, stage_id: str) -> None:
        self.store.obtain(stage_id)
        work = self.missing.pop(stage_id).work
        self.failures.forget(stage_id)
        self.display.finish(stage_id, self.left(stage_id, self.missing) if self.left else "")
        with contextlib.suppress(DivergedError):  # it was not run, so there is nothing to say of it
            if summary := work.summary(self.store.read(work, stage_id)):
                self.display.summary(summary)

    def _again(self, stage_id: str, reason: str, trace: str = "") -> None:
        """Once more, alone: what others beside it took may be what it lacked."""
        if stage_id in self.retried:
            self._failed(stage_id, f"{reason}, twice", trace)
            return
        self.retried.add(stage_id)
        self.alone.append(stage_id)
        self.display.drop(stage_id)
        self.display.note(stage_id, f"{reason}; once more, alone")

    def _elsewhere_again(self, stage_id: str, reason: str) -> None:
        """Once more, on what machines are left, unless it seems to take them along."""
        self.nodes_lost[stage_id] += 1
        if self.nodes_lost[stage_id] > MOST_NODES:
            self._failed(stage_id, f"{reason}, {self.nodes_lost[stage_id]} times")
            return
        self.display.drop(stage_id)
        self.display.note(stage_id, f"{reason}; once more")

    def _failed(self, stage_id: str, reason: str, trace: str = "") -> None:
        self.display.drop(stage_id)
        del self.missing[stage_id]
        self.display.note(stage_id, f"failed: {self.failures.add(stage_id, reason, trace)}")
