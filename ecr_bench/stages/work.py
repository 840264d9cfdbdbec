"""What every stage declares: typed settings and inputs, the work, and a typed result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ecr_bench.registry import Registry
from ecr_bench.section import Section

Report = Callable[[int, int], None]
"""Called with (done, total) in the stage's own unit."""

Chosen = tuple[Registry, tuple[str, ...]]
"""The names a stage takes from a registry; its code then has the modules of these entries and of no others."""

SettingsT = TypeVar("SettingsT", bound=Section)
InputsT = TypeVar("InputsT")
ResultT = TypeVar("ResultT", bound=Section)


class Work(Generic[SettingsT, InputsT, ResultT]):
    """One kind of stage. Subclass with the three types, name ``kind`` and define ``run``."""

    kind: ClassVar[str]
    """Folder of the store."""
    urgent: ClassVar[bool] = False
    """Whether it goes first as soon as it can: what it says is good to know before the rest is paid for."""
    Settings: ClassVar[type[Section]]
    """Every setting it reads."""
    Inputs: ClassVar[type[Any]]
    """Frozen dataclass of folders: role -> folder of the stage that plays it, None where a role may be empty."""
    Result: ClassVar[type[Section]]
    """What it says of itself in ``done.json``; files in its folder hold the rest."""

    @staticmethod
    def run(settings: SettingsT, inputs: InputsT, folder: Path, report: Report) -> ResultT:
        """Fill ``folder``. UserError for what the user must change."""
        raise NotImplementedError

    @classmethod
    def resume(
        cls, settings: SettingsT, inputs: InputsT, folder: Path, report: Report, kept: Path | None = None
    ) -> ResultT:
        """The same, going on from what an earlier try that was killed has left in ``kept``, which may not be there.

        Override it in a stage that takes long and can be cut, with a result that is the same bit for bit. ``kept``
        belongs to one process at a time and is deleted when the stage is done.
        """
        return cls.run(settings, inputs, folder, report)

    @classmethod
    def of_diverged(cls, inputs: InputsT, folder: Path, reason: str) -> ResultT | None:
        """What is left to say where a model that it rests on diverged for ``reason``; None for nothing. ``run`` is not
        called then."""
        return None

    @classmethod
    def chosen(cls, settings: SettingsT) -> Iterable[Chosen]:
        """What it takes from registries, by name. A registry it can reach and does not mention counts as a whole."""
        return ()

    @classmethod
    def data(cls, settings: SettingsT) -> Iterable[Path]:
        """Files it reads besides its inputs and its own code."""
        return ()

    @classmethod
    def devices(cls, settings: SettingsT) -> int:
        """GPUs, or processes where there is none, that it computes on together."""
        return 1

    @classmethod
    def summary(cls, result: ResultT) -> str:
        """A line to show when it is done; empty for none."""
        return ""
