"""A process that ends in the middle of a training, as far as a test can end it."""

from __future__ import annotations

from lightning.pytorch.callbacks import Callback


class Killed(BaseException):
    """No error that anything catches."""


class KillAt(Callback):
    """Ends the process when ``step`` is over, or a validation begins; never for step 0."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if self.step and trainer.global_step == self.step:
            raise Killed
