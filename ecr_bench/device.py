"""Where models run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ecr_bench.errors import UserError

if TYPE_CHECKING:
    from ecr_bench.config import Experiment


def device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``: training, scoring and teachers all follow it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(experiment: Experiment) -> None:
    """UserError when the experiment asks for a GPU and there is none."""
    if experiment.device == "cuda" and device() != "cuda":
        raise UserError(
            f"{experiment.name} asks for a GPU (device: cuda) and torch finds none: run it on a machine with one, "
            "or try --set device=auto"
        )
