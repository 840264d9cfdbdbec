"""Arms in turn: each is timed once in a round, so that what slows the machine for a while slows them all."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ecr_bench.arm import Arm
from ecr_bench.divergence import reason_of
from ecr_bench.errors import UserError, unknown
from ecr_bench.runner.plan import Cell, Plan
from ecr_bench.runner.ran import Ran
from ecr_bench.runner.store import Store
from ecr_bench.stages.pace import WARM_UP, check_steps, ms_an_item, seconds_a_step
from ecr_bench.stages.score import Cost, Scored, ScoreStage
from ecr_bench.stages.stage import Stage
from ecr_bench.stages.train import Trained, TrainStage
from ecr_bench.stages.work import Report

FINE_TUNING = ""
"""In place of a precision: fine-tuning, not scoring."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An arm at the one seed at which it is timed, trained and scored already."""

    cell: Cell
    train: Stage[Any]
    score: Stage[Any]

    @property
    def arm(self) -> Arm:
        return self.cell.arm

    def precisions(self, wanted: Sequence[str]) -> list[str]:
        """Those it is scored at; of them the ``wanted`` ones, where any are named."""
        return [one for one in self.score.settings.precisions if not wanted or one in wanted]


@dataclass(frozen=True, eq=False)
class Turn:
    """One arm, once a round: its fine-tuning, or its scoring at a precision."""

    subject: Subject
    precision: str

    def __str__(self) -> str:
        return f"{self.subject.arm}, {f'scoring in {self.precision}' if self.precision else 'fine-tuning'}"


def subjects_of(plan: Plan, names: Sequence[str]) -> list[Subject]:
    """Every arm of the plan (or those ``names`` print as) at its first seed. UserError for an unknown name or fewer
    than two."""
    first: dict[str, Cell] = {}
    for cell in plan.cells:
        first.setdefault(str(cell.arm), cell)
    for name in names:
        if name not in first:
            raise unknown("--arms", name, first)
    chosen = [cell for name, cell in first.items() if not names or name in names]
    if len(chosen) < 2:
        raise UserError(
            f"{len(chosen)} arm to time, two are needed to compare: {plan.experiment.name} has {', '.join(first)}"
        )
    return [Subject(cell, plan.stages[cell.train], plan.stages[cell.score]) for cell in chosen]


def check(subjects: Sequence[Subject], steps: int, precisions: Sequence[str]) -> None:
    """UserError for steps or precisions that an arm, or no arm, can be timed at."""
    for subject in subjects:
        if _trains(subject):
            check_steps(subject.train.settings, steps)
    known = list(dict.fromkeys(one for subject in subjects for one in subject.precisions(())))
    for precision in precisions:
        if precision not in known:
            raise unknown("--precisions", precision, known)


def _trains(subject: Subject) -> bool:
    """Step by step; a probe is fitted at once."""
    return bool(subject.train.settings.recipe.recipe.trains_model)


def needed(plan: Plan, subjects: Sequence[Subject]) -> dict[str, Stage[Any]]:
    """The stages that must be done: those that train and score the arms, and all they rest on."""
    found: dict[str, Stage[Any]] = {}
    waiting = [stage_id for subject in subjects for stage_id in (subject.cell.train, subject.cell.score)]
    while waiting:
        stage = plan.stages[waiting.pop()]
        if stage.id not in found:
            found[stage.id] = stage
            waiting += stage.inputs.values()
    return {stage_id: stage for stage_id, stage in plan.stages.items() if stage_id in found}


def first_round(subjects: Sequence[Subject], precisions: Sequence[str], store: Store) -> list[Turn]:
    """All fine-tuning, then all scoring precision by precision: what is compared lies close in time. What diverged has
    no turn, and neither has what only one arm could take."""
    sound = [subject for subject in subjects if not reason_of(store.result(subject.cell.train))]
    turns = [Turn(subject, FINE_TUNING) for subject in sound if _trains(subject)]
    for precision in dict.fromkeys(one for subject in sound for one in subject.precisions(precisions)):
        turns += [Turn(subject, precision) for subject in sound if _is_scored(subject, precision, store)]
    kinds = [turn.precision for turn in turns]
    return [turn for turn in turns if kinds.count(turn.precision) > 1]


def _is_scored(subject: Subject, precision: str, store: Store) -> bool:
    result = store.result(subject.cell.score)
    return not reason_of(result) and not reason_of(result["precisions"].get(precision, {"diverged": "not scored"}))


def in_order(turns: Sequence[Turn], number: int) -> list[Turn]:
    """The turns of round ``number``: who goes first moves on from round to round, and every other round goes back."""
    result: list[Turn] = []
    for kind in dict.fromkeys(turn.precision for turn in turns):
        mine = [turn for turn in turns if turn.precision == kind]
        start = number // 2 % len(mine)
        mine = mine[start:] + mine[:start]
        result += reversed(mine) if number % 2 else mine
    return result


def to_warm_up(turns: Sequence[Turn]) -> list[Turn]:
    """One of each kind, which is not counted: it pays for what a process does once."""
    first: dict[str, Turn] = {}
    for turn in turns:
        first.setdefault(turn.precision, turn)
    return list(first.values())


def seconds_of(turn: Turn, steps: int, store: Store) -> float:
    """About how long it takes, by what the stage took when it was run."""
    cell = turn.subject.cell
    if not turn.precision:
        trained, ran = store.read(TrainStage, cell.train), _ran(store, cell.train)
        assert isinstance(trained, Trained) and trained.steps
        before = max(0.0, ran.seconds - trained.train_seconds)
        return before + (steps + WARM_UP) * trained.train_seconds / trained.steps
    scored, ran = store.read(ScoreStage, cell.score), _ran(store, cell.score)
    assert isinstance(scored, Scored)
    took = {name: _scoring(cost, scored.items) for name, cost in scored.precisions.items()}
    return took[turn.precision] + max(0.0, ran.seconds - sum(took.values())) / len(took)


def _scoring(cost: Cost, items: int) -> float:
    return (cost.ms_per_item or 0.0) * items / 1000


def _ran(store: Store, stage_id: str) -> Ran:
    return Ran.model_validate(store.record(stage_id)["ran"])


def take(turn: Turn, steps: int, store: Store, report: Report) -> float | None:
    """Seconds of a step, or ms of an item; None where the model turned out to diverge."""
    stage = turn.subject.score if turn.precision else turn.subject.train
    inputs = stage.work.Inputs(**{role: store.path(stage_id) for role, stage_id in stage.inputs.items()})
    if turn.precision:
        return ms_an_item(stage.settings, inputs, turn.precision, report)
    return seconds_a_step(stage.settings, inputs, steps, report)


def count_of(turn: Turn, steps: int, store: Store) -> int:
    """Steps or items that the value of a turn is the mean of."""
    return store.read(ScoreStage, turn.subject.cell.score).items if turn.precision else steps


class _Stopped(BaseException):
    """Ctrl-C, told apart from KeyboardInterrupt, at which Lightning ends the process with an exit code of its own."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, Ctrl-C ends the work at once as a KeyboardInterrupt, whatever library is at work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Stopped

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except _Stopped:
        raise KeyboardInterrupt("nothing was written: a session counts when its last round is over") from None
    finally:
        signal.signal(signal.SIGINT, before)
