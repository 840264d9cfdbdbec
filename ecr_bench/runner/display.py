"""Progress a person can read."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ecr_bench.stages.stage import Stage


class Display:
    """One line for the whole run and one for each running stage; plain lines when not on a terminal."""

    def __init__(self, console: Console, stages: dict[str, Stage[Any]], cached: int):
        self.console, self.stages, self.live = console, stages, console.is_terminal
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(), console=console, disable=not self.live,
        )  # fmt: skip
        self.lines: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.finished, self.total = cached, len(stages)
        self.label = f"{self.total} stages" + (f", {cached} cached" if cached else "")
        self.overall = self.progress.add_task(
            self.label, total=self.total, completed=cached, count=f"{cached}/{self.total}"
        )

    def update(self, stage_id: str, done: int, total: int) -> None:
        if stage_id not in self.lines:
            self.started[stage_id] = time.perf_counter()
            self.lines[stage_id] = self.progress.add_task(self.stages[stage_id].label, total=None, count="")
        if total:
            self.progress.update(self.lines[stage_id], completed=done, total=total, count=f"{done}/{total}")

    def finish(self, stage_id: str, left: str = "") -> None:
        """It is done; ``left``: how much time the others will take, in words."""
        self.finished += 1
        seconds = time.perf_counter() - self.started.get(stage_id, time.perf_counter())
        self.drop(stage_id)
        self.progress.update(self.overall, completed=self.finished, count=self._count)
        if left:
            self.progress.update(self.overall, description=f"{self.label}, {left}")
        said = f"{seconds:.0f} s" + (f", {left}" if left and not self.live else "")
        self.console.print(f"[dim]{self._count:>7}[/] {self.stages[stage_id].label} [dim]{said}[/]")

    def drop(self, stage_id: str) -> None:
        """It runs no more, done or not."""
        if stage_id in self.lines:
            self.progress.remove_task(self.lines.pop(stage_id))

    def note(self, stage_id: str, text: str) -> None:
        """A line about a stage that did not just finish."""
        self.console.print(f"        {escape(f'{self.stages[stage_id].label}: {text}')}", highlight=False)

    def summary(self, text: str) -> None:
        """What a finished stage says of itself."""
        self.console.print(f"        [dim]{text}[/]")

    @property
    def _count(self) -> str:
        return f"{self.finished}/{self.total}"
