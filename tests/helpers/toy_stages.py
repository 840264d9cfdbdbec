"""Stages that do nothing but what a test of the runner needs: wait, fail, grow, die. They need no torch."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.io import DiskError
from ecr_bench.section import Section
from ecr_bench.stages.stage import Stage
from ecr_bench.stages.work import Report, Work


class ToySettings(Section):
    name: str
    does: str = "write"
    seconds: float = 0.0
    log: str
    """File that gets a line from each start."""


@dataclass(frozen=True)
class ToyInputs:
    first: Path | None = None
    second: Path | None = None


class ToyMade(Section):
    name: str


class ToyStage(Work[ToySettings, ToyInputs, ToyMade]):
    kind = "toy"
    Settings, Inputs, Result = ToySettings, ToyInputs, ToyMade

    @staticmethod
    def run(settings: ToySettings, inputs: ToyInputs, folder: Path, report: Report) -> ToyMade:
        with Path(settings.log).open("a") as log:
            log.write(f"{settings.name} {os.getpid()}\n")
        (folder / "half").write_text("made in part")
        _wait(settings.seconds)
        match settings.does:
            case "raise":
                raise RuntimeError("no such luck\nat all")
            case "refuse":
                raise UserError("corpus.rows: 0: must be positive")
            case "memory":
                raise MemoryError
            case "disk":
                raise DiskError("cannot write there: no space left on device")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once" if _starts(settings) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "meet":
                _meet(Path(settings.log), 3)
            case "devices":
                with Path(settings.log).open("a") as log:
                    log.write(f"{settings.name} sees {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
            case "exit":
                os._exit(7)
        (folder / "text.txt").write_text(settings.name)
        (folder / "large.bin").write_bytes(b"0" * 100)
        return ToyMade(name=settings.name)


def _starts(settings: ToySettings) -> int:
    return [line.split()[0] for line in Path(settings.log).read_text().splitlines()].count(settings.name)


def _wait(seconds: float) -> None:
    """Stubbornly: as a library does that does not look at signals."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def _meet(log: Path, many: int) -> None:
    """Until so many processes have begun a stage: how soon a second run starts is the machine's affair."""
    until = time.monotonic() + 240
    while len(workers(log)) < many:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(workers(log))} of {many} workers came")
        time.sleep(0.01)


def toy(log: Path, name: str, does: str = "write", seconds: float = 0.0, **inputs: Stage) -> Stage:
    settings = ToySettings(name=name, does=does, seconds=seconds, log=str(log))
    return Stage(ToyStage, name, settings, {role: stage.id for role, stage in inputs.items()})


def by_id(*stages: Stage) -> dict[str, Stage]:
    return {stage.id: stage for stage in stages}


def started(log: Path) -> list[str]:
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def workers(log: Path) -> set[int]:
    return {int(line.split()[1]) for line in log.read_text().splitlines()} if log.exists() else set()
