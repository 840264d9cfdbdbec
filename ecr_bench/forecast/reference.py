"""Before anything was measured on a machine: about how long a run will take, by what another one took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ecr_bench.forecast.forecast import Forecast, make_forecast
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.measurement import Measurement
from ecr_bench.forecast.profile import reference_profile
from ecr_bench.forecast.shape import Shapes
from ecr_bench.runner.store import Store


@dataclass(frozen=True)
class Borrowed:
    """Seconds of stages on the reference machine."""

    hardware: Hardware
    seconds: Mapping[str, float]
    """Of each stage it knows, by stage id."""

    def at_pace_of(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """The same at the pace of this machine, as the stages show that were ``measured`` here; at that of the
        reference where none was."""
        both = [(one.seconds, self.seconds[stage_id]) for stage_id, one in measured.items() if stage_id in self.seconds]
        here, there = sum(one for one, _ in both), sum(other for _, other in both)
        pace = here / there if here and there else 1.0
        return {stage_id: took * pace for stage_id, took in self.seconds.items()}


def borrow(forecast: Forecast, store: Store, shapes: Shapes) -> Borrowed | None:
    """What the reference machine knows where this one does not; None unless together they know all."""
    if not forecast.unknown:
        return None
    there = make_forecast(forecast.stages, store, reference_profile(), forecast.workshop, shapes)
    if any(one.stage.id not in there.seconds for one in forecast.unknown):
        return None
    return Borrowed(there.profile.hardware, there.seconds)
