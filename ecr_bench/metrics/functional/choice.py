"""How often the right one of several options is chosen."""

from __future__ import annotations

import torch


def macro_accuracy(right: torch.Tensor, language: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    """Mean over tasks of the mean over languages of the share of items answered right: as a board has it.

    Args:
        right: (N,) bool.
        language: (N,) int64; a language pair counts as a language.
        task: (N,) int64.

    Returns:
        Scalar float64. ValueError without items.
    """
    if not len(right):
        raise ValueError("no items")
    by_task = []
    for one in task.unique():
        mine = task == one
        shares = [right[mine & (language == code)].double().mean() for code in language[mine].unique()]
        by_task.append(torch.stack(shares).mean())
    return torch.stack(by_task).mean()
