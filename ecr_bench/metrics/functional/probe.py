"""Can a linear probe tell the language from the representation?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.model_selection import GroupKFold

from ecr_bench.metrics.functional.checks import ROUNDING, TooFewRows
from ecr_bench.metrics.functional.permutation import PERMUTATIONS, Null, random_orders, summarise

FOLDS = 5
RIDGE = 1.0


@dataclass(frozen=True)
class Fold:
    """A fitted probe as a linear map from the one-hot labels of the training rows to the scores of the test rows."""

    train: torch.Tensor
    test: torch.Tensor
    smoother: torch.Tensor
    """(test rows, training rows)."""


def _folds(x: torch.Tensor, clusters: torch.Tensor, folds: int, ridge: float) -> list[Fold]:
    """Ridge regression on standardised features with a free intercept; no cluster lies on both sides."""
    splits = GroupKFold(folds).split(x.numpy(), groups=clusters.numpy())
    rounding = ROUNDING * torch.finfo(x.dtype).eps
    return [
        _fold(x.double(), torch.from_numpy(train), torch.from_numpy(test), ridge, rounding) for train, test in splits
    ]


def _fold(x: torch.Tensor, train: torch.Tensor, test: torch.Tensor, ridge: float, rounding: float) -> Fold:
    mean, spread = x[train].mean(0), x[train].std(0, unbiased=False)
    # standardising would blow up the rounding that is all a constant feature varies by
    varies = spread > rounding * x[train].square().mean(0).sqrt()
    scale = torch.where(varies, spread, torch.inf)
    seen, unseen = (x[train] - mean) / scale, (x[test] - mean) / scale
    gram = seen.T @ seen + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    smoother = unseen @ torch.linalg.solve(gram, seen.T)
    return Fold(train, test, smoother + 1 / len(train))


def _accuracy(folds: list[Fold], labels: torch.Tensor) -> torch.Tensor:
    """Balanced accuracy of the held-out predictions of all folds together."""
    classes, index = labels.unique(return_inverse=True)
    onehot = torch.nn.functional.one_hot(index, len(classes)).double()
    predicted = torch.empty_like(index)
    for fold in folds:
        predicted[fold.test] = (fold.smoother @ onehot[fold.train]).argmax(1)
    right = (predicted == index).double()
    return ((onehot.T @ right) / onehot.sum(0)).mean()


def probe_accuracy(
    x: torch.Tensor, labels: torch.Tensor, clusters: torch.Tensor, folds: int = FOLDS, ridge: float = RIDGE
) -> torch.Tensor:
    """Cross-validated balanced accuracy of a linear probe (Alain & Bengio 2016, arXiv 1610.01644).

    Ridge regression on one-hot labels over standardised features, the largest score wins. Folds are cut by
    ``clusters`` (the meaning): translations of one sentence never lie on both sides, so a probe cannot profit from
    having seen the sentence.

    Args:
        x: (N, d) representations.
        labels: (N,) int64, what the probe must find (the language), at least two kinds.
        clusters: (N,) int64, rows that stay together; at least ``folds`` clusters.
        folds: of the cross-validation.
        ridge: L2 penalty.

    Returns:
        scalar float64 in 0..1: mean recall over labels, 1 / labels by chance.
    """
    _check(x, labels, clusters, folds)
    return _accuracy(_folds(x, clusters, folds, ridge), labels)


def _check(x: torch.Tensor, labels: torch.Tensor, clusters: torch.Tensor, folds: int) -> None:
    if x.ndim != 2 or labels.shape != clusters.shape or labels.shape != x.shape[:1]:
        raise ValueError(
            f"expected (N, d), (N,) and (N,), got {tuple(x.shape)}, {tuple(labels.shape)} and {tuple(clusters.shape)}"
        )
    if len(labels.unique()) < 2 or len(clusters.unique()) < folds:
        raise TooFewRows(f"needed are two labels and {folds} clusters or more")


def probe_accuracy_null(
    x: torch.Tensor,
    labels: torch.Tensor,
    clusters: torch.Tensor,
    folds: int = FOLDS,
    ridge: float = RIDGE,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """Null: labels are permuted over the rows and the probe is fitted anew."""
    _check(x, labels, clusters, folds)
    fitted = _folds(x, clusters, folds, ridge)
    orders = random_orders(len(labels), permutations, seed)
    return summarise(torch.stack([_accuracy(fitted, labels[order]) for order in orders]))
