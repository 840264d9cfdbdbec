"""``ecr-bench plan``: what an experiment will cost, here or on hardware that was measured elsewhere."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ecr_bench.config import Experiment
from ecr_bench.engines.registry import check_workers
from ecr_bench.errors import UserError, about
from ecr_bench.forecast.fits import check_fits
from ecr_bench.forecast.forecast import Forecast, make_forecast
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.outlook import known_forecast, workshop_of
from ecr_bench.forecast.probe import probe, to_probe
from ecr_bench.forecast.profile import Profile, kept_profile, named_profile
from ecr_bench.forecast.schedule import Workshop
from ecr_bench.forecast.show import stage_table, summary_lines, to_json
from ecr_bench.io import check_folder, write_json
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.pool import default_workers
from ecr_bench.runner.preflight import checked_plan
from ecr_bench.runner.store import Store
from ecr_bench.table import print_table
from ecr_bench.verbosity import progress_console


@dataclass(frozen=True)
class PlanRequest:
    """What ``ecr-bench plan`` was asked."""

    experiment: Experiment
    out: Path
    hardware: str
    workers: int | None
    plugins: tuple[str, ...] = ()
    save_profile: Path | None = None
    as_json: bool = False
    source: str = ""
    """Name or file of the experiment, as it was given, for what is said against its settings."""


def answer(asked: PlanRequest, console: Console) -> Forecast:
    """Measure what is not known (nowhere but here), and print table and answer. UserError for what cannot be."""
    check_workers(asked.workers)
    profile = named_profile(asked.hardware)
    if profile is not None and asked.save_profile is not None:
        raise UserError(f"--save-profile: nothing is measured here with --hardware {asked.hardware}: leave one out")
    quiet_libraries()
    store = Store(asked.out)
    if profile is None:
        check_folder(asked.out, "--out")
        progress = progress_console(Console(stderr=True) if asked.as_json else console)
        plan = checked_plan(asked.experiment, store, progress, asked.source)
        forecast = _here(asked, plan, store, progress)
    else:
        with about(asked.source):
            plan = make_plan(asked.experiment)
        forecast = _elsewhere(asked, plan, store, profile)
    check_fits(forecast, plan)
    if asked.save_profile is not None:
        write_json(asked.save_profile, _of_plan(forecast).model_dump(mode="json"))
    _print(asked, plan, forecast, console)
    return forecast


def _here(asked: PlanRequest, plan: Plan, store: Store, console: Console) -> Forecast:
    """After probes of what no measurement of this machine and code tells."""
    workshop = workshop_of(asked.workers or default_workers())
    forecast = known_forecast(plan, store, workshop)
    if not to_probe(forecast):
        return forecast
    probe(forecast, store, console, asked.plugins)
    return make_forecast(plan.stages, store, kept_profile(Hardware.here()), workshop)


def _elsewhere(asked: PlanRequest, plan: Plan, store: Store, profile: Profile) -> Forecast:
    """From a profile alone. UserError where it does not know a stage."""
    hardware = profile.hardware
    workers = asked.workers or (1 if hardware.gpu else max(1, min(8, hardware.cores)))
    workshop = Workshop(workers, max(1, hardware.cores // workers), hardware.cores)
    forecast = make_forecast(plan.stages, store, profile, workshop)
    if unknown := forecast.unknown:
        raise UserError(
            f"{asked.hardware}: {len(unknown)} of {len(forecast.to_run)} stages were not measured on {hardware} with "
            f"{workshop.threads} thread(s), the first is {unknown[0].stage.label}: give there: ecr-bench plan "
            f"{asked.experiment.name} --workers {workers} --save-profile FILE.json"
        )
    return forecast


def _of_plan(forecast: Forecast) -> Profile:
    """What the plan was made from, and nothing else that this machine has measured."""
    shapes = {one.shape for one in forecast.to_run.values()}
    found = tuple(one for one in forecast.profile.measurements if one.shape in shapes)
    return forecast.profile.model_copy(update={"measurements": found})


def _print(asked: PlanRequest, plan: Plan, forecast: Forecast, console: Console) -> None:
    if asked.as_json:
        json.dump(to_json(plan, forecast), sys.stdout, indent=2)
        print()
        return
    if forecast.to_run:
        print_table(stage_table(plan, forecast), console)
    for line in summary_lines(plan, forecast):
        console.print(escape(line), highlight=False, soft_wrap=True)
