"""One call of the Lightning Trainer, the same for pre-training and for every arm."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file

from ecr_bench import ranks
from ecr_bench.data.module import ExamplesDataModule
from ecr_bench.data.packed import tokens_of
from ecr_bench.divergence import after_training
from ecr_bench.memory import Holes, peak_memory, reset_peak_memory
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.sections import OptimiserConfig
from ecr_bench.sizes import Devices
from ecr_bench.stages.checkpoints import PARTS, STATE, Checkpoints, latest
from ecr_bench.stages.curves import Curves
from ecr_bench.stages.fitted import Fitted

REPORTED = 10
"""Steps between two reports to the runner."""
LOGGED = 10
"""Steps between two points of a curve."""
VALIDATIONS = 4
"""In one training, evenly spaced."""
WATCHING: list[Callback] = []
"""Look on at every training of this process, before all other callbacks (``forecast.watch``)."""


ONE = Devices()


class OthersDone(BaseException):
    """Of several devices this was not the first: what follows training is not for it to do. No Exception, so that
    whoever catches those lets it through."""


class Track(Callback):
    """Tell the runner how far training is and keep the loss and gradient norm of every step, curves and costs."""

    def __init__(self, report: Callable[[int, int], None], steps: int):
        self.report, self.steps = report, steps
        self.losses: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []
        self.val_loss: float | None = None
        self.curves = Curves()
        self.started = time.perf_counter()
        self.before = 0.0
        """Seconds of earlier tries, up to the checkpoint that this one goes on from."""
        self.peak = 0
        self.holes = Holes()

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    @property
    def memory(self) -> int:
        """Peak in bytes, of all tries."""
        return max(self.peak, peak_memory())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.losses.append(trainer.callback_metrics["train/loss"])
        self.norms.append(trainer.callback_metrics["train/grad_norm"])
        self.holes.after_piece()
        if trainer.global_step % REPORTED == 0:
            self.report(trainer.global_step, self.steps)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.val_loss = float(trainer.callback_metrics["val/loss"])

    def state_dict(self) -> dict[str, Any]:
        made = {"losses": torch.stack(self.losses).cpu(), "norms": torch.stack(self.norms).cpu()}
        spent = {"seconds": self.seconds, "memory": self.memory}
        return {**made, **spent, "val_loss": self.val_loss, "curves": self.curves.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.norms = (list(state_dict[name].unbind()) for name in ("losses", "norms"))
        self.before, self.peak = state_dict["seconds"], state_dict["memory"]
        self.val_loss, self.curves.rows = state_dict["val_loss"], state_dict["curves"]


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
        if self.at and not self.taken:
            self._take(0)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step in self.at:
            self._take(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return self.taken

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.taken = state_dict

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
    kept: Path | None = None,
    devices: Devices = ONE,
) -> Fitted:
    """Train for ``optimiser.steps``, write the curves to ``folder/tensorboard`` and ``folder/trace.safetensors``:
    ``loss`` (nats per token) and ``grad_norm`` of every step, float32 (steps,).

    Args:
        dtype: with bf16: autocast, weights stay float32.
        kept: folder for checkpoints; the last one that is there is gone on from.
        devices: above 1 for who was started by ``stages.processes``. Only the first of them comes back from here,
            with the whole model as ``module.model``; for the others this ends with ``OthersDone``.
    """
    L.seed_everything(seed, verbose=False)
    reset_peak_memory()
    track = Track(report, optimiser.steps)
    validate_every = max(1, optimiser.steps // VALIDATIONS)
    last: list[Callback] = []
    if kept is not None and module.resumable:
        last = [Checkpoints(kept, (validate_every, LOGGED), module.keep)]
    with warnings.catch_warnings(), ranks.together() if devices.count > 1 else nullcontext():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_steps=optimiser.steps,
            accelerator="auto",
            devices=devices.count,
            **_spread(devices),
            precision="bf16-mixed" if dtype == "bf16" else "32-true",
            deterministic=True,
            gradient_clip_val=optimiser.clip,
            logger=track.curves,
            callbacks=[*WATCHING, track, *callbacks, *last],
            log_every_n_steps=LOGGED,
            val_check_interval=validate_every if data.validation else None,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        _fit(trainer, module, data, latest(kept) if kept is not None and last else None)
        track.peak = ranks.greatest(track.memory)
        _end(module, devices)
    module.to("cpu")
    track.curves.write(folder / "tensorboard")
    losses, norms = torch.stack([one.cpu() for one in track.losses]), torch.stack([one.cpu() for one in track.norms])
    save_file({"loss": losses.float(), "grad_norm": norms.float()}, folder / "trace.safetensors")
    return Fitted(
        train_seconds=round(track.seconds, 2),
        steps=optimiser.steps,
        tokens=_tokens(data),
        train_loss=_number(losses[-20:].mean()),
        val_loss=_number(torch.tensor(track.val_loss)) if track.val_loss is not None else None,
        grad_norm_median=_number(norms.median()),
        grad_norm_max=_number(norms.max()),
        finite=bool(torch.isfinite(losses).all()),
        peak_memory=track.memory,
        **after_training(module.model, losses[-1]),
    )


def _spread(devices: Devices) -> dict[str, Any]:
    """Arguments of the trainer for more than one device."""
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    if devices.count == 1:
        return {}
    if devices.strategy == "ddp":
        # buffers never change in training; the data module gives each its rows
        return {"strategy": DDPStrategy(broadcast_buffers=False), "use_distributed_sampler": False}
    # a checkpoint is one file, as of one device
    made = ModelParallelStrategy(
        data_parallel_size=devices.count, tensor_parallel_size=1, save_distributed_checkpoint=False
    )
    return {"strategy": made, "use_distributed_sampler": False}


def _end(module: CausalLMModule, devices: Devices) -> None:
    """The first of several devices gets the whole model, the others are done."""
    first = ranks.rank() == 0
    if devices.count > 1 and devices.strategy == "fsdp2":
        from ecr_bench.methods.sharding import unsharded

        model = unsharded(module.model, first)
        if model is not None:
            module.model = model
    if not first:
        raise OthersDone


def _fit(trainer: L.Trainer, module: CausalLMModule, data: ExamplesDataModule, checkpoint: Path | None) -> None:
    """From the start, or from ``checkpoint``."""
    if checkpoint is None:
        trainer.fit(module, datamodule=data)
        return
    module.strict_loading = False  # a checkpoint leaves out what is frozen
    module.take_up(checkpoint / PARTS)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint / STATE, weights_only=True)


def _tokens(data: ExamplesDataModule) -> int:
    """Of all batches."""
    counts = tokens_of(data.rows)
    return sum(int(counts[batch].sum()) for batch in data.batches)


def _number(value: torch.Tensor) -> float | None:
    """A JSON number, or None where training diverged."""
    number = float(value)
    return round(number, 5) if math.isfinite(number) else None
