"""How fast fine-tuning and scoring go: the stages' own code, of which nothing is kept but the time."""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import dataclass, field

from ecr_bench.errors import UserError
from ecr_bench.scratch import scratch
from ecr_bench.stages.fitting import REPORTED, VALIDATIONS
from ecr_bench.stages.score import ScoreInputs, ScoreSettings, ScoreStage
from ecr_bench.stages.train import TrainInputs, TrainSettings, TrainStage
from ecr_bench.stages.work import Report

WARM_UP = 10
"""Steps that are not timed: the first ones allocate, load and compile."""


def check_steps(settings: TrainSettings, steps: int) -> None:
    """UserError where ``steps`` steps of this arm cannot be timed."""
    whole = settings.finetune.steps
    most = (whole // VALIDATIONS - WARM_UP - 1) // REPORTED * REPORTED
    if most < REPORTED:
        fewest = VALIDATIONS * (WARM_UP + REPORTED + 1)
        raise UserError(f"finetune.steps: {whole} are too few to time {REPORTED} of them: {fewest} or more")
    if steps < REPORTED or steps % REPORTED or steps > most:
        raise UserError(
            f"--steps {steps}: must be a multiple of {REPORTED} from {REPORTED} to {most} (of {whole} steps, after "
            f"{WARM_UP} to warm up, before the first validation)"
        )


def seconds_a_step(settings: TrainSettings, inputs: TrainInputs, steps: int, report: Report) -> float:
    """Mean over ``steps`` steps of fine-tuning, rows and base model as in the arm's own training, after WARM_UP steps.

    Loading and encoding, validation, snapshots and saving are no part of it. ``report`` gets the steps so far.
    """
    clock = _Clock(WARM_UP, WARM_UP + steps, report)
    pooling = settings.pooling and settings.pooling.model_copy(update={"snapshots": 0})
    with scratch() as folder, contextlib.suppress(_Enough):
        TrainStage.run(settings.model_copy(update={"pooling": pooling}), inputs, folder, clock)
    gc.collect()
    return (clock.at[clock.last] - clock.at[clock.first]) / steps


def ms_an_item(settings: ScoreSettings, inputs: ScoreInputs, precision: str, report: Report) -> float | None:
    """Mean over all test items, scored as the stage scores them; None where the model diverged at this precision.

    Loading the model is no part of it, tokenising the items is.
    """
    report(0, 0)
    only = settings.model_copy(update={"precisions": (precision,)})
    with scratch() as folder:
        scored = ScoreStage.run(only, inputs, folder, lambda done, total: None)
    gc.collect()
    return scored.precisions[precision].ms_per_item


class _Enough(BaseException):
    """Ends a training stage that has shown its pace. No Exception, so that whoever catches those lets it through."""


@dataclass
class _Clock:
    """As the report of a training stage: notes when it is told of step ``first`` and ``last``, then ends the stage."""

    first: int
    last: int
    report: Report
    at: dict[int, float] = field(default_factory=dict)
    """Step -> seconds on the clock at its end."""

    def __call__(self, done: int, total: int) -> None:
        if done in (self.first, self.last):
            _finish_queued()
            self.at[done] = time.perf_counter()
        if done >= self.last:
            raise _Enough
        self.report(done, self.last)


def _finish_queued() -> None:
    """Wait for the GPU: steps are queued faster than they are computed."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
