"""Curves of a training, kept in memory until its end, so that one that is resumed has them whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class Curves(Logger):
    """A Lightning logger. ``write`` makes TensorBoard's event files of what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[Any]] = []
        """Name, step, value, seconds since 1970."""

    @property
    def name(self) -> str:
        return "curves"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        now = time.time()
        self.rows += [[name, int(step or 0), float(value), now] for name, value in metrics.items()]

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The stage's settings are in ``done.json``."""

    def write(self, folder: Path) -> None:
        """One event file."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder)) as writer:
            for name, step, value, at in self.rows:
                writer.add_scalar(name, value, step, walltime=at)
