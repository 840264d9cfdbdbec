"""Plan against measured: ``plan.json`` in the folder of a run. It speaks of one machine and is no part of a result."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ecr_bench.errors import UserError
from ecr_bench.forecast.expected import TRAINING
from ecr_bench.forecast.forecast import Forecast
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.measurement import Measurement
from ecr_bench.formats import duration, many, off, size
from ecr_bench.io import read_json, write_json
from ecr_bench.section import Section

FILE = "plan.json"
FORMAT = 1


class StageCompared(Section):
    kind: str
    label: str
    shape: str
    """Stages of one shape cost the same."""
    units: float
    expected_seconds: float | None
    """Null where nothing was known before."""
    seconds: float
    expected_memory: int | None
    expected_least: bool = False
    """Whether that is a lower bound."""
    memory: int | None
    """Peak in bytes."""

    @property
    def off(self) -> float | None:
        """Measured over expected seconds, minus 1."""
        return self.seconds / self.expected_seconds - 1 if self.expected_seconds else None

    @property
    def memory_off(self) -> float | None:
        return self.memory / self.expected_memory - 1 if self.expected_memory and self.memory else None


class PlanKept(Section):
    """``plan.json``: of the last time that stages were run for this experiment."""

    format: int = FORMAT
    name: str
    hardware: Hardware
    workers: int
    threads: int
    expected_seconds: float | None
    """From the first stage to the last; null where a stage was unknown before."""
    seconds: float
    stages: tuple[StageCompared, ...]

    def lines(self) -> list[str]:
        """For a person, one or two."""
        whole = f"plan: {duration(self.expected_seconds)} expected, {duration(self.seconds)} measured"
        if self.expected_seconds is None:
            known = sum(one.expected_seconds is not None for one in self.stages)
            whole = (
                f"plan: {known} of {many(len(self.stages), 'stage')} known before, {duration(self.seconds)} measured"
            )
        elif self.expected_seconds > 0:
            whole += f" ({off(self.expected_seconds, self.seconds)})"
        parts = []
        if ratios := [one.off for one in self.stages if one.kind in TRAINING and one.off is not None]:
            parts.append(f"training stages {100 * min(ratios):+.0f} to {100 * max(ratios):+.0f} %")
        known_peaks = [one for one in self.stages if one.memory_off is not None]
        if known_peaks:
            expected = max(one.expected_memory or 0 for one in known_peaks)
            measured = max(one.memory or 0 for one in known_peaks)
            more = " or more" if any(one.expected_least for one in known_peaks) else ""
            parts.append(f"largest peak memory {size(expected)}{more} expected, {size(measured)} measured")
        return [whole, "plan: " + "; ".join(parts)] if parts else [whole]

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.model_dump(mode="json"))


def read_kept(folder: Path) -> PlanKept:
    """UserError where a run has no plan, or one of another version."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file: no stage was run for {folder.name} since plans are kept")
    try:
        return PlanKept.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def compared(name: str, forecast: Forecast, measured: dict[str, Measurement], seconds: float) -> PlanKept:
    """What ``forecast`` said beside what its stages took; ``seconds``: from the first to the last of them."""
    stages = [
        StageCompared(
            kind=one.stage.kind,
            label=one.stage.label,
            shape=found.shape,
            units=one.units,
            expected_seconds=one.expected.seconds,
            seconds=found.seconds,
            expected_memory=one.expected.memory,
            expected_least=one.expected.least,
            memory=found.memory,
        )
        for stage_id, one in forecast.to_run.items()
        if (found := measured.get(stage_id)) is not None
    ]
    simulated, workshop = forecast.simulated, forecast.workshop
    return PlanKept(
        name=name,
        hardware=forecast.profile.hardware,
        workers=workshop.workers,
        threads=workshop.threads,
        expected_seconds=simulated.seconds if simulated else None,
        seconds=round(seconds, 2),
        stages=tuple(stages),
    )
