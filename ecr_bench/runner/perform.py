"""One stage from its inputs in the store to its own folder, with the circumstances it ran in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecr_bench.divergence import KEY, inherited
from ecr_bench.errors import UserError
from ecr_bench.runner.ran import Ran
from ecr_bench.runner.store import Store
from ecr_bench.source_code import forget
from ecr_bench.stages.identity import Identity, identity_of
from ecr_bench.stages.stage import Stage
from ecr_bench.stages.work import Report
from ecr_bench.system import peak_resident, reset_peak_resident


class ChangedError(UserError):
    """Code, data or packages are not what the run was planned with: no stage of the plan can be made any more."""


def run_stage(stage: Stage[Any], store: Store, report: Report) -> dict[str, Any]:
    """Run ``stage`` unless it is done, and return its result as plain JSON."""
    if not store.done(stage.id):
        perform(stage, stage.identity, store, report)
    return store.result(stage.id)


def perform(stage: Stage[Any], planned: Identity, store: Store, report: Report, wait: bool = True) -> None:
    """Run ``stage`` and store it under its ``planned`` identity, unless another process has done so meanwhile.

    What rests on a model that diverged is not run: its result is the reason (``ecr_bench.divergence``).
    ChangedError that names what differs when its identity here is another one, before the work or after it; BusyError
    where another process is at it, unless it is to ``wait`` for that.
    """
    _check(stage, planned)
    for stage_id in stage.inputs.values():
        store.obtain(stage_id)
    inputs = {role: store.path(stage_id) for role, stage_id in stage.inputs.items()}
    place = store.workplace(planned.stage_id)

    def build(folder: Path) -> dict[str, Any]:
        peak = _memory_of(planned)
        started = time.perf_counter()
        if reason := inherited({role: store.result(stage_id) for role, stage_id in stage.inputs.items()}):
            result = stage.of_diverged(inputs, folder, reason)
        else:
            result = stage.run(inputs, folder, report, place.kept)
        ran = Ran.here(time.perf_counter() - started, planned, peak())
        _check(stage, planned)
        said = {KEY: reason} if result is None else result.model_dump(mode="json")
        return {"spec": planned.to_json(), "result": said, "ran": ran.model_dump(mode="json")}

    store.write(planned.stage_id, build, wait)


def _memory_of(planned: Identity) -> Callable[[], int]:
    """Starts to count memory, without torch for a stage that needs none; what it returns gives the peak in bytes."""
    if planned.device is None:
        reset_peak_resident()
        return peak_resident
    from ecr_bench import memory

    memory.begin_whole()
    return memory.peak_of_whole


def _check(stage: Stage[Any], planned: Identity) -> None:
    forget()
    if differences := planned.differences(identity_of(stage.work, stage.settings, stage.inputs)):
        shown = ", ".join(differences[:5]) + (f" and {len(differences) - 5} more" if len(differences) > 5 else "")
        raise ChangedError(f"{stage.label}: not what was planned: {shown}; give the same command again")
