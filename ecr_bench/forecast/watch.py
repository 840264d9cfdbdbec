"""A look at single steps of a real training: their seconds, and the floating-point operations of one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from ecr_bench.io import read_json, write_json
from ecr_bench.section import Section
from ecr_bench.stages import fitting

FILE = "watched.json"
COUNTED = 4
"""The step whose operations are counted, which slows it: from 1."""
ADAMW = 15
"""Operations of AdamW for one parameter and step: the two moments 3 + 4, their corrections 2, root, sum and quotient 3,
update 2, decay 1 (Loshchilov and Hutter 2019, algorithm 2). The counter sees none of them."""


class Watched(Section):
    """``watched.json`` of a stage that trained under ``watching``."""

    seconds_per_step: float
    """Mean over the steps but the first and the counted one, loading of the batch included; validation is not."""
    flops_per_step: int | None
    """Forward, backward and optimiser of one step: matrix products and attention, and AdamW by formula. None where the
    training had no such step."""


class Watch(Callback):
    """Clock and counter; the first of the callbacks, so that what others do between steps is in no step.

    ``stands_for``: steps of the training that is looked into. Its heaviest batch is then the first, which no clock
    counts, so that the peak of memory is that of the whole.
    """

    def __init__(self, stands_for: int | None = None) -> None:
        self.stands_for = stands_for
        self.started: list[float] = []
        self.ended: list[float] = []
        self.counter: FlopCounterMode | None = None
        self.flops: int | None = None

    def setup(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        if self.stands_for is not None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            data.batches[0] = data.heaviest(self.stands_for)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == COUNTED:
            self.counter = FlopCounterMode(display=False)
            self.counter.__enter__()
        self.started.append(_now())

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.ended.append(_now())
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.flops = self.counter.get_total_flops() + ADAMW * sum(map(adamw_parameters, trainer.optimizers))
            self.counter = None

    def watched(self) -> Watched | None:
        """None where fewer than three steps were seen."""
        steps = [end - start for start, end in zip(self.started, self.ended, strict=False)]
        timed = [seconds for number, seconds in enumerate(steps, 1) if number not in (1, COUNTED)]
        if not timed:
            return None
        between = [later - end for end, later in zip(self.ended, self.started[1:], strict=False)]
        # validation and snapshots come between some steps, loading of a batch between all
        loading = statistics.median(between)
        return Watched(seconds_per_step=statistics.fmean(timed) + loading, flops_per_step=self.flops)


@contextmanager
def watching(folder: Path, stands_for: int | None = None) -> Iterator[None]:
    """Inside, the training of this process is watched; ``folder`` then gets ``watched.json``, where anything was.

    ``stands_for``: see ``Watch``; without it training is as it would be unwatched.
    """
    watch = Watch(stands_for)
    fitting.WATCHING.append(watch)
    try:
        yield
    finally:
        fitting.WATCHING.remove(watch)
    if (found := watch.watched()) is not None:
        write_json(folder / FILE, found.model_dump(mode="json"))


def read_watched(folder: Path) -> Watched | None:
    """What ``watching`` left in a folder; None where it left nothing."""
    if not (folder / FILE).is_file():
        return None
    try:
        return Watched.model_validate(read_json(folder / FILE))
    except ValidationError:
        return None


def adamw_parameters(optimiser: Any) -> int:
    """Parameters that AdamW moves; all but those of Muon, whose matrix products the counter sees."""
    inner = getattr(optimiser, "optimizer", optimiser)  # as Lightning wraps it
    groups = getattr(inner, "adamw", inner).param_groups
    return sum(p.numel() for group in groups for p in group["params"] if p.requires_grad)


def _now() -> float:
    """Seconds, when all work given to the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
