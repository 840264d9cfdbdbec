"""Made-up forecasts and measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecr_bench.forecast.expected import Expected
from ecr_bench.forecast.forecast import Forecast, StageForecast
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.kept import PlanKept, StageCompared
from ecr_bench.forecast.measurement import Measurement
from ecr_bench.forecast.profile import Profile
from ecr_bench.forecast.schedule import Workshop
from ecr_bench.stages.stage import Stage
from tests.helpers.toy_stages import toy

MACHINE = Hardware(host="here", cpu="made up", cores=2, gpu=None, memory=8 * 10**9)
TWO = Workshop(workers=2, threads=1, cores=2)


def measurement(**given: Any) -> Measurement:
    return Measurement(**{"kind": "train", "shape": "s", "code": "c", "threads": 1, "units": 10, "seconds": 5} | given)


def stages(log: Path, needs: Sequence[Sequence[int]]) -> dict[str, Stage[Any]]:
    """Toys: number i reads those of ``needs[i]`` (two at most, of lower numbers)."""
    made: list[Stage[Any]] = []
    for number, reads in enumerate(needs):
        roles = dict(zip(("first", "second"), (made[i] for i in reads), strict=False))
        made.append(toy(log, f"toy {number}", **roles))
    return {stage.id: stage for stage in made}


def forecast(
    of: Mapping[str, Stage[Any]], expected: Sequence[Expected], workshop: Workshop = TWO, hardware: Hardware = MACHINE
) -> Forecast:
    """Nothing is done yet."""
    to_run = {
        stage_id: StageForecast(stage, stage_id, 1.0, one)
        for (stage_id, stage), one in zip(of.items(), expected, strict=True)
    }
    return Forecast(of, to_run, workshop, Profile(hardware=hardware))


def kept(name: str = "made-up", expected: float | None = 100.0, seconds: float = 110.0) -> PlanKept:
    of = {"shape": "s", "units": 10.0}
    return PlanKept(
        name=name, hardware=MACHINE, workers=2, threads=1, expected_seconds=expected, seconds=seconds,
        stages=(
            StageCompared(
                kind="train", label="train a", expected_seconds=50.0, seconds=60.0, expected_memory=10**9,
                memory=950_000_000, **of,
            ),
            StageCompared(
                kind="score", label="score a", expected_seconds=None, seconds=9.0, expected_memory=None, memory=None,
                **of,
            ),
        ),
    )  # fmt: skip
