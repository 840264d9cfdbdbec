"""Training that was killed goes on from its last checkpoint, and ends bit for bit as if it had not been.

A checkpoint holds what steps have changed: trained parameters, optimiser and schedule, all random states, the place in
the order of batches, what callbacks have gathered, and what the parts of the arm keep of themselves (``Part.keep``).
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ecr_bench import ranks
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, remove_parts, sha256

SECONDS = "ECR_BENCH_CHECKPOINT_SECONDS"
"""Environment variable: what a kill may cost, about. 0: a checkpoint after every step."""
DEFAULT = 120.0
MOST_OF_TIME = 0.05
"""Share of the time that checkpoints may take."""
STATE, HASH, PARTS = "state.ckpt", "sha256", "parts"

Keep = Callable[[Path], None]
"""Writes what is beside parameters and buffers into a folder."""


def seconds() -> float:
    """Between two checkpoints. UserError for a value that is no positive number."""
    text = os.environ.get(SECONDS, str(DEFAULT))
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not found >= 0:
        raise UserError(f"{SECONDS}={text}: must be a number of seconds, 0 or more")
    return found


class Checkpoints(Callback):
    """Writes ``folder/checkpoint-STEP`` every now and then; the last of the callbacks, so that it sees what they did.

    No checkpoint is made where something follows that belongs to the step, validation or a point of the curves: the
    next step does.
    """

    def __init__(self, folder: Path, followed: Sequence[int], keep: Keep):
        """``followed``: multiples of these steps are followed by something."""
        self.folder, self.keep, self.followed = folder, keep, followed
        self.pause = seconds()
        self.last = time.monotonic()
        self.randomness: dict[str, Any] | None = None
        """To be put back before the first step."""

    def on_train_batch_start(self, *_: Any) -> None:
        if self.randomness is not None:
            set_randomness(self.randomness)
            self.randomness = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step >= trainer.max_steps or any(step % every == 0 for every in self.followed):
            return
        if ranks.first_says(time.monotonic() - self.last >= self.pause):
            self._write(trainer, step)

    def _write(self, trainer: L.Trainer, step: int) -> None:
        if ranks.rank() > 0:  # it writes nothing, and has its part in gathering what is written
            trainer.save_checkpoint(self.folder / STATE)
            return
        started = time.monotonic()
        with atomic_dir(self.folder / f"checkpoint-{step:09d}") as place:
            trainer.save_checkpoint(place / STATE)
            self.keep(place / PARTS)
            (place / HASH).write_text(sha256(place / STATE))
        for older in _found(self.folder)[:-1]:
            shutil.rmtree(older, ignore_errors=True)
        self.last = time.monotonic()
        if (wanted := seconds()) > 0:
            self.pause = max(wanted, (self.last - started) / MOST_OF_TIME)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Without what training leaves as it is: the stage makes that again, and packed weights cannot be loaded."""
        trained = {name for name, parameter in pl_module.named_parameters() if parameter.requires_grad}
        trained |= {name for name, _ in pl_module.named_buffers()}
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in trained}

    def state_dict(self) -> dict[str, Any]:
        return {"random": randomness()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.randomness = state_dict["random"]


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint in ``folder``, for who owns it; what is not whole is deleted."""
    remove_parts(folder)
    for place in reversed(_found(folder)):
        try:
            if (place / HASH).read_text() == sha256(place / STATE):
                return place
        except (OSError, ValueError):
            pass
        shutil.rmtree(place, ignore_errors=True)
    return None


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"))


def randomness() -> dict[str, Any]:
    """Every global random state, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(internal), gauss],
    }


def set_randomness(state: dict[str, Any]) -> None:
    """Put back what ``randomness`` gave."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
