"""Optimisers of all arms: AdamW, or Muon for matrices with AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ecr_bench.errors import UserError
from ecr_bench.sections import OptimiserConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the trainable parameters: matrices with weight decay, vectors without."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def hidden_matrices(module: nn.Module, frozen: bool = False) -> list[nn.Parameter]:
    """Trainable weights of linear layers (``frozen``: others too), without those that are also an embedding (tied
    heads)."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    linear = {id(m.weight): m.weight for m in module.modules() if isinstance(m, nn.Linear)}
    found = [p for key, p in linear.items() if (p.requires_grad or frozen) and p.dim() == 2 and key not in embeddings]
    return [p for p in found if isinstance(p, nn.Parameter)]


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on hidden matrices, AdamW on embeddings, norms and heads, as one optimiser.

    Muon's step is scaled to AdamW's RMS (Moonshot, arXiv 2502.16982, section 2.2), so that both share one
    learning rate.
    """

    def __init__(self, module: nn.Module, learning_rate: float, weight_decay: float):
        matrices = hidden_matrices(module)
        taken = {id(p) for p in matrices}
        groups = parameter_groups(module, weight_decay)
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in taken]
        # an arm that trains matrices only (LoRA) leaves AdamW one empty group, one that freezes them leaves Muon one:
        # both refuse none at all
        groups = [group for group in groups if group["params"]] or groups[:1]
        self.adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)
        self.muon = torch.optim.Muon(
            [{"params": matrices}], lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        super().__init__([p for group in groups for p in group["params"]] + matrices, {})
        self.param_groups = self.adamw.param_groups + self.muon.param_groups
        self._hand_on()

    def _hand_on(self) -> None:
        """The very same groups and states to both: a schedule, a checkpoint and FSDP2 know only this object."""
        count = len(self.adamw.param_groups)
        self.adamw.param_groups, self.muon.param_groups = self.param_groups[:count], self.param_groups[count:]
        self.adamw.state = self.muon.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.adamw.step()
        self.muon.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._hand_on()


def create_optimiser(module: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser ``config.optimiser`` names, over the trainable parameters of ``module``.

    Where all linear layers are frozen, Muon has nothing to do and AdamW trains the rest, as it does beside Muon.

    UserError for Muon where it could never work: an old torch, or a model such as GPT-2 without linear layers; and for
    any optimiser where nothing is trained at all.
    """
    if not any(p.requires_grad for p in module.parameters()):
        raise UserError("nothing to train: every parameter of this arm is frozen")
    if config.optimiser == "adamw":
        groups = parameter_groups(module, config.weight_decay)
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"optimiser muon needs torch 2.9 or newer, here is {torch.__version__}; allowed: adamw")
    if not hidden_matrices(module, frozen=True):
        raise UserError("optimiser: muon works on linear layers, and this model has none; allowed: adamw")
    return MuonAdamW(module, config.learning_rate, config.weight_decay)
