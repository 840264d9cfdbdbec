"""A stage of a plan: one unit of work with its settings and the stages it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic

from ecr_bench.stages.identity import Identity, identity_of
from ecr_bench.stages.work import Report, SettingsT, Work


@dataclass(frozen=True)
class Stage(Generic[SettingsT]):
    """Runs once, in one process, from the folders of its inputs to its own."""

    work: type[Work[SettingsT, Any, Any]]
    label: str
    """What a person reads while it runs."""
    settings: SettingsT
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Role -> stage id; the roles are the fields of ``work.Inputs``."""
    cost: float = 1.0
    """Rough core-seconds, for the order of execution only."""

    def __post_init__(self) -> None:
        roles = dataclasses.fields(self.work.Inputs)
        needed = {role.name for role in roles if role.default is dataclasses.MISSING}
        given = set(self.inputs)
        if not isinstance(self.settings, self.work.Settings) or needed - given or given - {role.name for role in roles}:
            raise TypeError(f"stage {self.kind}: settings {type(self.settings).__name__}, inputs {sorted(given)}")

    @property
    def kind(self) -> str:
        return self.work.kind

    @cached_property
    def identity(self) -> Identity:
        """Taken when it is first asked for; another process takes its own."""
        return identity_of(self.work, self.settings, self.inputs)

    @property
    def id(self) -> str:
        """``kind/key``."""
        return self.identity.stage_id

    def run(self, inputs: Mapping[str, Path], folder: Path, report: Report, kept: Path | None = None) -> Any:
        """Do the work from the folders of the inputs, by role, to ``folder``; returns ``work.Result``.

        ``kept``: a folder that outlives a kill, for work that goes on from what an earlier try has left there.
        """
        return self.work.resume(self.settings, self.work.Inputs(**inputs), folder, report, kept)

    def of_diverged(self, inputs: Mapping[str, Path], folder: Path, reason: str) -> Any:
        """What is left to say where an input diverged for ``reason``, or None."""
        return self.work.of_diverged(self.work.Inputs(**inputs), folder, reason)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "identity"}
