"""What a finished stage has cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecr_bench.divergence import reason_of
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.shape import Shapes, code_key
from ecr_bench.forecast.watch import read_watched
from ecr_bench.runner.ran import Ran
from ecr_bench.section import Section
from ecr_bench.stages.base_model import BaseMade
from ecr_bench.stages.identity import Identity
from ecr_bench.stages.score import Scored
from ecr_bench.stages.train import Trained


class Measurement(Section):
    """One stage on one machine; ``seconds`` and ``units`` belong together."""

    kind: str
    shape: str
    code: str
    """Of code and packages (``shape.code_key``)."""
    threads: int
    """Of torch; 0 for a stage that does without."""
    units: float
    seconds: float
    per_unit: float | None = None
    """Seconds that one step or item more takes; None where only the whole was timed."""
    memory: int | None = None
    """Peak in bytes."""
    disk: int = 0
    """Bytes of its files."""
    parameters: int | None = None
    """Of the model it leaves."""
    flops_per_unit: float | None = None
    """Of a step of training, optimiser included; counted in a probe."""
    date: str = ""

    def at(self, units: float) -> float | None:
        """Seconds for so many units; None where that does not follow."""
        if units == self.units:
            return self.seconds
        return None if self.per_unit is None else max(0.0, self.seconds + (units - self.units) * self.per_unit)


def measurement_of(
    record: dict[str, Any], folder: Path, shapes: Shapes, hardware: Hardware | None
) -> Measurement | None:
    """From ``done.json`` and the folder of a stage; None where it was made on other hardware than ``hardware`` (None:
    wherever it was), was not run because of a model that diverged, or was written by a version too different."""
    try:
        identity, ran = Identity(**record["spec"]), Ran.model_validate(record["ran"])
    except (KeyError, TypeError, ValidationError):
        return None
    if hardware is not None and not hardware.made(ran):
        return None
    shape, result = shapes.of(identity), record["result"]
    if shape is None or set(result) == {"diverged"}:
        return None
    units = shapes.units(identity)
    try:
        said = _of_result(identity.kind, result, units)
    except (ValidationError, ZeroDivisionError):
        return None
    if (watched := read_watched(folder)) is not None:
        said |= {"per_unit": watched.seconds_per_step, "flops_per_unit": watched.flops_per_step}
    whole = max(ran.seconds, said.pop("at_least", 0.0))  # one that went on from a checkpoint ran longer than that
    peaks = [peak for peak in (said.pop("memory", None), ran.peak_memory) if peak]
    files = record.get("files", {})
    return Measurement(
        kind=identity.kind, shape=shape, code=code_key(identity), threads=ran.threads, units=units, seconds=whole,
        memory=max(peaks, default=None), disk=sum(size for size, _ in files.values()), date=ran.date, **said,
    )  # fmt: skip


def _of_result(kind: str, result: dict[str, Any], units: float) -> dict[str, Any]:
    """What the result of a stage says of its cost."""
    if kind == "train":
        trained = Trained.model_validate(result)
        per_unit = trained.train_seconds / trained.steps if trained.steps else 0.0  # a probe is fitted at once
        return {
            "per_unit": per_unit, "at_least": trained.train_seconds, "memory": trained.peak_memory,
            "parameters": trained.parameters,
        }  # fmt: skip
    if kind == "base":
        made = BaseMade.model_validate(result)
        if made.training is None:
            return {"parameters": made.parameters}
        fitted = made.training
        return {
            "per_unit": fitted.train_seconds / fitted.steps, "at_least": fitted.train_seconds,
            "memory": fitted.peak_memory, "parameters": made.parameters,
        }  # fmt: skip
    if kind == "score":
        scored = Scored.model_validate(result)
        costs = list(scored.precisions.values())
        if any(reason_of(cost.model_dump()) or cost.ms_per_item is None for cost in costs):
            return {"memory": max(cost.scoring_memory for cost in costs)}
        seconds = sum(cost.ms_per_item or 0.0 for cost in costs) * scored.items / 1000
        return {"per_unit": seconds / units, "memory": max(cost.scoring_memory for cost in costs)}
    return {}
