"""How the K semantic anchors of a level are found among teacher embeddings.

There is no way to learn them from labels, and on purpose: an anchor that knows the label of a training row
would hand the answer to the model by another door (docs/protocol.md, 4), and the comparison with the plain arms,
which see those labels once, would be lost.
"""

from __future__ import annotations

import torch

from ecr_bench.ecr.kmeans import kmeans
from ecr_bench.sections import AnchorsConfig


def select(vectors: torch.Tensor, config: AnchorsConfig, seed: int) -> torch.Tensor:
    """Anchors (K, d) float32 of ``vectors`` (N, d) float32 with at least K distinct rows; same seed, same anchors.

    ``kmeans``: centroids. ``random``: K distinct rows, evenly drawn. ``farthest``: greedy k-centre (Gonzalez 1985,
    doi 10.1016/0304-3975(85)90224-5): from a random row on, always the row farthest from those chosen.
    """
    if config.selection == "random":
        return random_rows(vectors, config.k, seed)
    if config.selection == "farthest":
        return farthest_points(vectors, config.k, seed)
    return kmeans(vectors, config.k, config.iterations, seed)


def random_rows(vectors: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """(k, d) rows of ``vectors``, no two equal."""
    distinct = torch.unique(vectors, dim=0)
    return distinct[torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed))[:k]].clone()


def farthest_points(vectors: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """(k, d) rows of ``vectors``; each maximises its distance to the nearest one before it."""
    first = int(torch.randint(len(vectors), (1,), generator=torch.Generator().manual_seed(seed)))
    squares = vectors.square().sum(1)
    chosen = [first]
    nearest = torch.full_like(squares, torch.inf)
    for _ in range(k - 1):
        last = vectors[chosen[-1]]
        nearest = torch.minimum(nearest, squares + last.square().sum() - 2 * vectors @ last)
        nearest[chosen[-1]] = -torch.inf  # rounding must not choose a row twice
        chosen.append(int(nearest.argmax()))
    return vectors[chosen].clone()
