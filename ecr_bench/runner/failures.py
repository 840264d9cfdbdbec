"""What of a plan could not be made, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.io import write_text
from ecr_bench.names import STORE, file_name
from ecr_bench.stages.stage import Stage

FOLDER = "failed"
"""Of the store: where the traces are."""


class StageError(UserError):
    """Something broke that the user cannot have caused, and nothing is left to publish."""

    exit_code = 3


@dataclass(frozen=True)
class Failure:
    """Of one stage."""

    label: str
    """Of the stage."""
    reason: str
    """One line."""
    trace: Path | None = None
    """File that says where it was raised."""

    def __str__(self) -> str:
        return f"{self.label}: {self.reason}" + (f" (trace: {self.trace})" if self.trace else "")

    @property
    def error(self) -> UserError:
        """To be raised where the whole run comes to nothing by it."""
        broken = self.trace is not None
        return StageError(str(self)) if broken else UserError(str(self))


@dataclass
class Failures:
    """Of the stages of a plan."""

    stages: Mapping[str, Stage[Any]]
    root: Path
    """The folder of runs."""
    of: dict[str, Failure] = field(default_factory=dict)
    """Stage id -> its own failure."""

    def add(self, stage_id: str, reason: str, trace: str = "") -> Failure:
        path = self._trace(stage_id)
        if trace:
            write_text(path, trace)
        self.of[stage_id] = Failure(self.stages[stage_id].label, reason, path if trace else None)
        return self.of[stage_id]

    def forget(self, stage_id: str) -> None:
        """It was made: what an earlier run said of it holds no longer."""
        self._trace(stage_id).unlink(missing_ok=True)

    def _trace(self, stage_id: str) -> Path:
        return self.root / STORE / FOLDER / f"{file_name(stage_id)}.txt"

    def behind(self, stage_id: str) -> Failure | None:
        """Why a stage was not made: by its own failure or that of one it rests on; None where none of them failed."""
        if stage_id in self.of:
            return self.of[stage_id]
        return next((found for needed in self._needs(stage_id) if (found := self.behind(needed))), None)

    def _needs(self, stage_id: str) -> Iterator[str]:
        return (needed for needed in self.stages[stage_id].inputs.values() if needed in self.stages)

    def __bool__(self) -> bool:
        return bool(self.of)

    def raise_first(self) -> None:
        """For who can go on with nothing less than all stages."""
        for failure in self.of.values():
            raise failure.error
