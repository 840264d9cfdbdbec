"""The plan of a run that is about to start, kept up to date while its stages finish."""

from __future__ import annotations

import time
from collections.abc import Collection

from rich.console import Console
from rich.markup import escape

from ecr_bench.errors import UserError
from ecr_bench.forecast.forecast import Forecast, make_forecast, shapes_of
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.kept import PlanKept, compared
from ecr_bench.forecast.measurement import Measurement
from ecr_bench.forecast.profile import Profile, keep, kept_profile, measured_in
from ecr_bench.forecast.reference import Borrowed, borrow
from ecr_bench.forecast.schedule import Workshop, simulate
from ecr_bench.formats import duration, many, size
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.pool import threads_of
from ecr_bench.runner.store import Store
from ecr_bench.teachers.base import usable_cores


def workshop_of(workers: int) -> Workshop:
    """As the local engine uses this machine."""
    return Workshop(workers, threads_of(workers), usable_cores())


def known_forecast(plan: Plan, store: Store, workshop: Workshop) -> Forecast:
    """From what was measured on this machine before: in the user's cache, or where that says too little, in the
    store."""
    hardware = Hardware.here()
    profile, shapes = kept_profile(hardware), shapes_of(plan.stages, store)
    forecast = make_forecast(plan.stages, store, profile, workshop, shapes)
    if forecast.unknown:
        profile = profile.with_(one for _, one in measured_in(store, hardware))
        forecast = make_forecast(plan.stages, store, profile, workshop, shapes)
    return forecast


def line_of(forecast: Forecast, borrowed: Borrowed | None = None) -> str:
    """One line for a person: stages to run, wall time, memory; or what is unknown of them."""
    count, workers = len(forecast.to_run), many(forecast.workshop.workers, "worker")
    if not count:
        return "plan: nothing to run"
    said = f"plan: {many(count, 'stage')} to run"
    if borrowed is not None:
        seconds = simulate(forecast.stages, {**borrowed.seconds, **forecast.seconds}, forecast.workshop).seconds
        pace = f"at the pace of {borrowed.hardware}: none is known here yet"
        return f"{said}, about {duration(seconds)} with {workers} {pace}"
    if unknown := len(forecast.unknown):
        known = sum(forecast.seconds.values())
        rest = f"; the other {count - unknown} are {duration(known)} of work" if known else ""
        return f"{said}, {unknown} of them unknown on this machine: the first stages will tell{rest}"
    simulated = forecast.simulated
    assert simulated is not None
    memory = f", {size(simulated.memory)} of memory{' or more' if forecast.least else ''}" if simulated.memory else ""
    path = f"critical path {duration(forecast.critical_path)}"
    return f"{said}, about {duration(simulated.seconds)} with {workers} ({path}){memory}"


class Outlook:
    """Of one run: ``begin`` before its first stage, ``left`` after each, ``end`` after the last."""

    def __init__(self, plan: Plan, store: Store, forecast: Forecast):
        self.plan, self.store, self.forecast = plan, store, forecast
        self.shapes = shapes_of(plan.stages, store)
        self.borrowed = borrow(forecast, store, self.shapes)
        self.profile: Profile = forecast.profile
        self.measured: dict[str, Measurement] = {}
        self.started = time.monotonic()

    def begin(self, console: Console) -> None:
        self.started = time.monotonic()
        if self.forecast.to_run:
            console.print(escape(line_of(self.forecast, self.borrowed)), highlight=False, soft_wrap=True)

    def left(self, stage_id: str, missing: Collection[str]) -> str:
        """What to show after a stage was made, while ``missing`` are not: the time that is left, in words."""
        for _, found in measured_in(self.store, self.profile.hardware, [stage_id]):
            self.measured[stage_id] = found
            self.profile = self.profile.with_([found])
        if not missing:
            return ""
        now = make_forecast(self.plan.stages, self.store, self.profile, self.forecast.workshop, self.shapes)
        known = (self.borrowed.at_pace_of(self.measured) if self.borrowed else {}) | now.seconds
        seconds = {stage: took for stage, took in known.items() if stage in missing}
        about = duration(simulate(self.plan.stages, seconds, self.forecast.workshop).seconds) if seconds else ""
        unknown = len(set(missing) - set(seconds))
        if not unknown:
            return f"about {about} left"
        return (
            f"{about} and {many(unknown, 'unknown stage')} left" if about else f"{many(unknown, 'unknown stage')} left"
        )

    def end(self, console: Console) -> PlanKept | None:
        """Say plan against measured and keep the measurements; None where no stage was run here."""
        took = time.monotonic() - self.started
        if not self.measured:
            return None
        try:
            keep(self.profile.hardware, self.measured.values())
        except UserError as error:  # the run is sound without
            console.print(escape(f"what its stages took is not kept for the next plan: {error}"), soft_wrap=True)
        made = compared(self.plan.experiment.name, self.forecast, self.measured, took)
        for line in made.lines():
            console.print(escape(line), highlight=False, soft_wrap=True)
        return made
