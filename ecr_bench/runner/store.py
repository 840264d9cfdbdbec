"""Where finished stages live: ``<out>/store/<kind>/<key>/``, complete when ``done.json`` is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_bench.divergence import KEY, DivergedError, reason_of
from ecr_bench.io import atomic_dir, read_json, write_json
from ecr_bench.stages.work import ResultT, Work

DONE = "done.json"


@dataclass(frozen=True)
class Store:
    """Content-addressed results under ``root``; a key is the hash of what can change the result."""

    root: Path

    def path(self, stage_id: str) -> Path:
        """Folder of stage ``kind/key``, whether it exists or not."""
        return self.root / "store" / stage_id

    def done(self, stage_id: str) -> bool:
        return (self.path(stage_id) / DONE).is_file()

    def result(self, stage_id: str) -> dict[str, Any]:
        """What the stage reported when it finished, as plain JSON."""
        return self.record(stage_id)["result"]

    def read(self, work: type[Work[Any, Any, ResultT]], stage_id: str) -> ResultT:
        """What the stage reported when it finished; DivergedError where it was not run for a model that diverged."""
        result = self.result(stage_id)
        if set(result) == {KEY}:
            raise DivergedError(f"{stage_id}: {result[KEY]}")
        return work.Result.model_validate(result)  # type: ignore[return-value]

    def find(self, work: type[Work[Any, Any, ResultT]], stage_id: str) -> ResultT | None:
        """The same; None where it was not run for a model that diverged (``reason`` says which)."""
        try:
            return self.read(work, stage_id)
        except DivergedError:
            return None

    def reason(self, stage_id: str) -> str:
        """Why a finished stage has nothing to go on with; empty where it is sound."""
        return reason_of(self.result(stage_id))

    def record(self, stage_id: str) -> dict[str, Any]:
        """All of ``done.json``: what decided the result, the result, and the circumstances it was made in."""
        return read_json(self.path(stage_id) / DONE)

    def write(self, stage_id: str, build: Callable[[Path], Mapping[str, Any]]) -> None:
        """Run ``build(folder) -> record`` in a temporary folder that takes its place only when whole."""
        with atomic_dir(self.path(stage_id)) as folder:
            write_json(folder / DONE, build(folder))
