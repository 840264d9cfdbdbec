"""One call of the Lightning Trainer, the same for pre-training and for every arm."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import save_file

from ecr_bench.data.module import ExamplesDataModule
from ecr_bench.divergence import after_training
from ecr_bench.memory import peak_memory, reset_peak_memory
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.sections import OptimiserConfig
from ecr_bench.stages.fitted import Fitted

REPORTED = 10
"""Steps between two reports to the runner."""
VALIDATIONS = 4
"""In one training, evenly spaced."""


class Track(Callback):
    """Tell the runner how far training is and keep the loss and gradient norm of every step."""

    def __init__(self, report: Callable[[int, int], None], steps: int):
        self.report, self.steps = report, steps
        self.losses: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.losses.append(trainer.callback_metrics["train/loss"])
        self.norms.append(trainer.callback_metrics["train/grad_norm"])
        if trainer.global_step % REPORTED == 0:
            self.report(trainer.global_step, self.steps)


class Snapshots(Callback):
    """Keep what ``pool`` says of the model at the start and ``times`` evenly spaced steps; the last is the end.

    ``pool`` must leave all random states alone, so that training is the same with and without it.
    """

    def __init__(self, pool: Callable[[], torch.Tensor], steps: int, times: int):
        self.pool = pool
        self.at = {round(steps * i / times) for i in range(1, times + 1)} if times else set()
        self.taken: dict[str, torch.Tensor] = {}

    def _take(self, step: int) -> None:
        self.taken[f"step-{step:06d}"] = self.pool().half().contiguous()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.at:
            self._take(0)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step in self.at:
            self._take(trainer.global_step)

    def save(self, folder: Path) -> None:
        """Write ``snapshots.safetensors``: ``step-000123`` -> (N, d) float16."""
        if self.taken:
            save_file(self.taken, folder / "snapshots.safetensors")


def fit(
    module: CausalLMModule,
    data: ExamplesDataModule,
    optimiser: OptimiserConfig,
    seed: int,
    folder: Path,
    report: Callable[[int, int], None],
    callbacks: Sequence[Callback] = (),
    dtype: str = "fp32",
) -> Fitted:
    """Train for ``optimiser.steps``, log to ``folder/tensorboard`` and write ``folder/trace.safetensors``: ``loss``
    (nats per token) and ``grad_norm`` of every step, float32 (steps,). ``dtype`` bf16: autocast, weights stay float32.
    """
    L.seed_everything(seed, verbose=False)
    reset_peak_memory()
    track = Track(report, optimiser.steps)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_steps=optimiser.steps,
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if dtype == "bf16" else "32-true",
            deterministic=True,
            gradient_clip_val=optimiser.clip,
            logger=TensorBoardLogger(str(folder), name="tensorboard", version=""),
            callbacks=[track, *callbacks],
            log_every_n_steps=10,
            val_check_interval=max(1, optimiser.steps // VALIDATIONS) if data.validation else None,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
    module.to("cpu")
    losses, norms = torch.stack(track.losses).cpu(), torch.stack(track.norms).cpu()
    save_file({"loss": losses.float(), "grad_norm": norms.float()}, folder / "trace.safetensors")
    val_loss = trainer.callback_metrics.get("val/loss")
    return Fitted(
        train_seconds=round(time.perf_counter() - started, 2),
        steps=optimiser.steps,
        tokens=sum(len(data.rows[i].ids) for batch in data.batches for i in batch),
        train_loss=_number(losses[-20:].mean()),
        val_loss=_number(val_loss) if val_loss is not None else None,
        grad_norm_median=_number(norms.median()),
        grad_norm_max=_number(norms.max()),
        finite=bool(torch.isfinite(losses).all()),
        peak_memory=peak_memory(),
        **after_training(module.model, losses[-1]),
    )


def _number(value: torch.Tensor) -> float | None:
    """A JSON number, or None where training diverged."""
    number = float(value)
    return round(number, 5) if math.isfinite(number) else None
