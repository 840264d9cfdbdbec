"""A forecast as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ecr_bench.forecast.expected import TRAINING, Expected
from ecr_bench.forecast.forecast import Forecast, StageForecast, trains
from ecr_bench.forecast.outlook import line_of
from ecr_bench.formats import DASH, count, duration, many, size
from ecr_bench.runner.plan import Plan
from ecr_bench.table import Table


@dataclass(frozen=True)
class Alike:
    """Stages to run that cost the same."""

    first: StageForecast
    number: int

    @property
    def label(self) -> str:
        more = self.number - 1
        return self.first.stage.label + (f" and {more} more like it" if more else "")


def groups(forecast: Forecast) -> Iterator[Alike]:
    """In the order of the plan; what is equal in shape and units is one."""
    found: dict[tuple[Any, ...], list[StageForecast]] = {}
    for one in forecast.to_run.values():
        found.setdefault((one.stage.kind, one.shape, one.units), []).append(one)
    yield from (Alike(alike[0], len(alike)) for alike in found.values())


def stage_table(plan: Plan, forecast: Forecast) -> Table:
    """One line for each group."""
    lines = []
    for group in groups(forecast):
        expected = group.first.expected
        lines.append(
            (
                group.label,
                count(expected.parameters) if group.first.stage.kind in TRAINING else "",
                count(group.first.units) if trains(group.first.stage) else "",
                _flops(expected.flops) if trains(group.first.stage) else "",
                count(group.first.extra_tokens) if group.first.extra_tokens else "",
                duration(expected.seconds),
                _peak(expected),
                size(expected.disk),
            )
        )
    heads = ("stage", "params", "steps", "FLOPs", "control tokens", "time", "peak memory", "disk")
    caption = (
        "each stage; FLOPs: all steps, counted in one (matrix products, attention, Muon) plus AdamW by formula; "
        "control tokens: extra tokens that training reads; memory of the GPU where there is one, else of the process, "
        "which takes more (≥) the longer it runs"
    )
    return Table.of(f"{plan.experiment.name}: stages to run", heads, lines, caption)


def _peak(expected: Expected) -> str:
    return ("≥ " if expected.least and expected.memory else "") + size(expected.memory)


def _flops(value: float | None) -> str:
    return DASH if value is None else f"{value:.2e}"


def summary_lines(plan: Plan, forecast: Forecast) -> list[str]:
    """What the table does not say, and last the answer in one line."""
    cached = len(forecast.stages) - len(forecast.to_run)
    kinds = ", ".join(f"{kind} {done}+{left}" for kind, (done, left) in forecast.kinds.items())
    workshop = forecast.workshop
    lines = [
        f"{many(len(plan.cells), 'cell')}, {many(len(forecast.stages), 'stage')}: {cached} cached, "
        f"{len(forecast.to_run)} to run (cached+to run: {kinds})",
        f"on {forecast.profile.hardware}, {many(workshop.workers, 'worker')} of {many(workshop.threads, 'thread')}",
    ]
    if forecast.to_run:
        extra = f", {count(forecast.extra_tokens)} extra tokens for control tokens" if forecast.extra_tokens else ""
        lines.append(f"disk: {size(forecast.disk)} more in the store; training: {_flops(forecast.flops)} FLOPs{extra}")
    return [*lines, line_of(forecast)]


def to_json(plan: Plan, forecast: Forecast) -> dict[str, Any]:
    """Plain JSON; seconds, bytes, FLOPs; null for what is not known."""
    simulated = forecast.simulated
    return {
        "experiment": plan.experiment.name,
        "hardware": forecast.profile.hardware.model_dump(mode="json"),
        "workers": forecast.workshop.workers,
        "threads": forecast.workshop.threads,
        "cells": len(plan.cells),
        "stages": {
            "cached": len(forecast.stages) - len(forecast.to_run),
            "to_run": len(forecast.to_run),
            "kinds": {kind: {"cached": done, "to_run": left} for kind, (done, left) in forecast.kinds.items()},
        },
        "groups": [_group_json(group) for group in groups(forecast)],
        "seconds": simulated.seconds if simulated else None,
        "critical_path_seconds": forecast.critical_path,
        "peak_memory": simulated.memory if simulated else None,
        "peak_memory_is_least": forecast.least if simulated else None,
        "disk": forecast.disk,
        "flops": forecast.flops,
        "extra_tokens": forecast.extra_tokens,
        "unknown": [one.stage.label for one in forecast.unknown],
    }


def _group_json(group: Alike) -> dict[str, Any]:
    one, expected = group.first, group.first.expected
    return {
        "kind": one.stage.kind,
        "stage": one.stage.label,
        "count": group.number,
        "units": one.units,
        "parameters": expected.parameters,
        "flops": expected.flops,
        "extra_tokens": one.extra_tokens,
        "seconds": expected.seconds,
        "peak_memory": expected.memory,
        "peak_memory_is_least": expected.least,
        "disk": expected.disk,
    }
