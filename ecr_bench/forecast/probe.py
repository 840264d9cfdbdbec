"""Short real stages that show what a plan costs: the stages' own code, a few steps or items, in the same workers.

Of each shape that nothing is known of, one stage runs with fewer units; what it reads is made small in the same way,
or, where it has no units, made as it will be for the run, which then finds it done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from ecr_bench.forecast.expected import TRAINING
from ecr_bench.forecast.forecast import Forecast, StageForecast, trains
from ecr_bench.forecast.profile import Profile, keep, measured_in
from ecr_bench.forecast.shape import GROWS_WITH, code_key
from ecr_bench.forecast.watch import watching
from ecr_bench.runner.clean import Remains, free
from ecr_bench.runner.execute import execute
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from ecr_bench.section import Section
from ecr_bench.stages.stage import Stage
from ecr_bench.stages.work import Report

FEW: Mapping[str, tuple[int, ...]] = {
    "base": (12,),
    "train": (12,),
    "items": (4, 12),
    "anchors": (5_000, 20_000),
    "translations": (5_000, 20_000),
}
"""Kind -> units of its probes, where the run has more than the last of them: several where only the whole is timed."""


@dataclass(frozen=True)
class ProbeStage(Stage[Any]):
    """A stage whose training is watched."""

    stands_for: int | None = None
    """Steps of the planned one, where it has more."""

    def run(self, inputs: Mapping[str, Path], folder: Path, report: Report, kept: Path | None = None) -> Any:
        with watching(folder, self.stands_for):
            return super().run(inputs, folder, report, kept)


class Probes:
    """The stages that have to run for a forecast, laid out in ``stages`` (id -> stage)."""

    def __init__(self, forecast: Forecast, store: Store):
        self.planned, self.store = forecast.stages, store
        self.stages: dict[str, Stage[Any]] = {}
        self._inputs: dict[str, str] = {}
        """Planned stage -> what plays it."""

    def add(self, stage_id: str) -> None:
        """The probes of a planned stage, with all they read."""
        stage = self.planned[stage_id]
        for settings in _smaller(stage):
            self._probe(stage, settings)

    def _probe(self, stage: Stage[Any], settings: Section) -> str:
        """Id of a planned stage with these settings, its inputs small as well."""
        inputs = {role: self._input(stage_id) for role, stage_id in stage.inputs.items()}
        given = stage.work, f"probe: {stage.label}", settings, inputs, stage.cost
        if stage.kind not in TRAINING:
            return self._added(Stage(*given))
        shorter = settings != stage.settings  # as long as it is, a run may find it done
        return self._added(ProbeStage(*given, _units(stage.settings, GROWS_WITH[stage.kind]) if shorter else None))

    def _added(self, small: Stage[Any]) -> str:
        return self.stages.setdefault(small.id, small).id

    def _input(self, stage_id: str) -> str:
        """What plays a role in a probe: the stage itself where it is done, else its smallest form."""
        if stage_id not in self._inputs:
            stage = self.planned[stage_id]
            if self.store.done(stage_id):
                self._with_inputs(stage_id)
                self._inputs[stage_id] = stage_id
            else:
                self._inputs[stage_id] = self._probe(stage, _smaller(stage)[0])
        return self._inputs[stage_id]

    def _with_inputs(self, stage_id: str) -> None:
        """The plan of an execution holds whatever its stages read, done or not."""
        if stage_id not in self.stages:
            self.stages[stage_id] = self.planned[stage_id]
            for needed in self.planned[stage_id].inputs.values():
                self._with_inputs(needed)


def _smaller(stage: Stage[Any]) -> list[Section]:
    """Settings of its probes: with fewer units where it has more than a probe needs, else its own."""
    path, few = GROWS_WITH.get(stage.kind, ()), FEW.get(stage.kind, ())
    if not path or _units(stage.settings, path) <= few[-1]:
        return [stage.settings]
    return [_with_units(stage.settings, path, units) for units in few]


def _units(settings: Any, path: tuple[str, ...]) -> int:
    for name in path:
        settings = getattr(settings, name)
    return int(settings)


def _with_units(settings: Any, path: tuple[str, ...], units: int) -> Any:
    name, *rest = path
    changed = _with_units(getattr(settings, name), tuple(rest), units) if rest else units
    return settings.model_copy(update={name: changed})


def to_probe(forecast: Forecast) -> list[StageForecast]:
    """One stage of each shape (with its code) that no measurement of this code is there for, or no count of FLOPs."""
    first: dict[tuple[str | None, str], StageForecast] = {}
    for one in forecast.to_run.values():
        known = one.expected.known and one.expected.same_code
        if not known or (trains(one.stage) and one.expected.flops is None and not _was_probed(one, forecast)):
            first.setdefault((one.shape, code_key(one.stage.identity)), one)
    return list(first.values())


def _was_probed(one: StageForecast, forecast: Forecast) -> bool:
    """Whether a probe of this shape and code has run, which need not have counted anything."""
    most, code = FEW[one.stage.kind][-1], code_key(one.stage.identity)
    found = forecast.profile.of(one.shape, forecast.workshop.threads)
    return any(measured.code == code and measured.units <= most for measured in found)


def probe(forecast: Forecast, store: Store, console: Console, plugins: tuple[str, ...] = ()) -> Profile:
    """Run what ``forecast`` lacks, keep what it took in the user's cache, and delete what no run will want.

    UserError for the first probe that fails.
    """
    probes = Probes(forecast, store)
    for one in to_probe(forecast):
        probes.add(one.stage.id)
    before = {stage_id for stage_id in probes.stages if store.done(stage_id)}
    console.print("probing: short stages that show what this machine takes", highlight=False)
    if (load := psutil.getloadavg()[0]) > (cores := forecast.profile.hardware.cores) / 4:
        said = f"other work keeps {load:.1f} of {cores} cores busy: what is measured now includes it"
        console.print(said, highlight=False, soft_wrap=True)
    try:
        execute(probes.stages, store, console, Local(forecast.workshop.workers, plugins)).raise_first()
    finally:  # also where it was stopped: what was measured need not be measured again
        done = [stage_id for stage_id in probes.stages if store.done(stage_id)]
        found = [one for _, one in measured_in(store, forecast.profile.hardware, done)]
        profile = keep(forecast.profile.hardware, found)
        free(store, list(_left_over(probes.stages, before, forecast, store)))
    return profile


def _left_over(
    stages: Mapping[str, Stage[Any]], before: Iterable[str], forecast: Forecast, store: Store
) -> Iterator[Remains]:
    """What was made for the probes alone."""
    for stage_id, stage in stages.items():
        wanted = stage_id in forecast.stages and not isinstance(stage, ProbeStage)
        if not wanted and stage_id not in before and store.done(stage_id):
            yield Remains(f"probe {stage_id}", store.path(stage_id), 0)
