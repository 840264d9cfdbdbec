"""Which documents of a task can be scored, before any is: each option has tokens of its own and fits the window."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval.api.task import Task

from ecr_bench.data.joint import TooLong, TooLongError
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.run import quiet


@dataclass(frozen=True)
class Examined:
    """A task whose documents were looked at; ``task`` holds those that are left."""

    task: Task
    items: int
    """Documents before any was left out."""
    left_out: tuple[TooLong, ...] = ()
    failure: str = ""
    """Why nothing of it can be scored; empty where it can."""

    @property
    def name(self) -> str:
        return str(self.task.task_name)


def examine(lm: EcrLM, task: Task, skip_long: bool, reserve: int = 0) -> Examined:
    """Look at every document of ``task``; leave out of it those that do not fit the window, if ``skip_long``.

    ``reserve``: control tokens of another arm that is compared, so that both leave out the same documents.
    """
    items = len(task.eval_docs)
    try:
        with quiet():
            task.build_all_requests(limit=None, rank=0, world_size=1)
            found = lm.find_too_long(task.instances, reserve)
        if found and not skip_long:
            raise TooLongError(list(found.values()))
        if len(found) == items:
            raise UserError(f"none of its {items} items fits a window of {lm.max_length} tokens")
    except UserError as error:
        return Examined(task, items, failure=str(error))
    if found:
        lost = {number for _, number in found}
        kept = [number for number in range(items) if number not in lost]
        # the examples of a prompt are kept by lm-eval's sampler, not here
        task.dataset = {split: docs.select(kept) for split, docs in task.dataset.items()}
    return Examined(task, items, tuple(found.values()))
