"""What would not fit into memory is refused before anything runs, with the setting that would make it fit."""

from __future__ import annotations

from dataclasses import replace

from ecr_bench.errors import UserError
from ecr_bench.forecast.forecast import Forecast, StageForecast, trains
from ecr_bench.formats import size
from ecr_bench.runner.plan import Plan


def check_fits(forecast: Forecast, plan: Plan) -> None:
    """UserError where a stage took more memory when it was measured than there is, or stages at once would.

    On a GPU only what computes there is counted, against the GPU's memory. What was not measured is left to
    ``runner.needs``.
    """
    hardware = forecast.profile.hardware
    for one in forecast.to_run.values():
        counts = hardware.gpu is None or one.stage.identity.device == "cuda"
        if counts and one.expected.memory is not None and one.expected.memory > hardware.memory:
            raise UserError(
                f"{plan.experiment.name}: {one.stage.label}: took {size(one.expected.memory)} of memory when it was "
                f"measured, here are {size(hardware.memory)}: {_remedy(one, plan)}"
            )
    if hardware.gpu is None and not forecast.unknown:
        _check_together(forecast, plan)


def _check_together(forecast: Forecast, plan: Plan) -> None:
    limit, simulated = forecast.profile.hardware.memory, forecast.simulated
    if simulated is None or simulated.memory <= limit:
        return
    for workers in range(forecast.workshop.workers - 1, 0, -1):
        if forecast.simulated_with(replace(forecast.workshop, workers=workers)).memory <= limit:
            break
    named = ", ".join(forecast.stages[stage_id].label for stage_id in simulated.together[:3])
    raise UserError(
        f"{plan.experiment.name}: {len(simulated.together)} stages at once ({named}) take {size(simulated.memory)} of "
        f"memory, here are {size(limit)}: give --workers {workers}"
    )


def _remedy(one: StageForecast, plan: Plan) -> str:
    """The setting to change, by name."""
    stage = one.stage
    name = next((cell.arm.size for cell in plan.cells if stage.id in (cell.train, cell.base, cell.score)), "")
    if name and trains(stage):
        fit = getattr(stage.settings, "fitting", None) or getattr(stage.settings, "size", None)
        batch = getattr(stage.settings, "finetune", None) or getattr(stage.settings, "pretrain", None)
        if fit is not None and batch is not None and fit.accumulate < batch.batch_size:
            parts = min(batch.batch_size, 2 * fit.accumulate)
            return f"--set sizes.{name}.accumulate={parts} takes a batch in smaller parts"
        if fit is not None and not fit.checkpointing:
            return f"--set sizes.{name}.checkpointing=true keeps less for the backward pass"
    if stage.kind == "score":
        return f"--set scoring.batch_tokens={max(256, stage.settings.batch_tokens // 2)} scores in smaller batches"
    return f"take a smaller size than {name}" if name else "take a machine with more"
