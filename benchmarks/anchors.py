"""k-means of 100,000 teacher vectors into 256 anchors, and codes of them, against scikit-learn and faiss.

The vectors are unit-length mixtures of 2,000 meanings whose sizes and widths vary, 384 numbers each, as sentence
encoders give them. A peer's time counts at equal inertia (±1 %); how far each gets is printed beside.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.harness import Options, Result, compared, seconds
from ecr_bench.config import AnchorsConfig
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.kmeans import inertia, kmeans

DIMENSIONS, MEANINGS, COUNT = 384, 2000, 4


def vectors_of(rows: int) -> torch.Tensor:
    """(rows, 384) float32 of unit length."""
    generator = torch.Generator().manual_seed(0)
    # neighbouring meanings share a topic, and a few are much more frequent than most
    topics = torch.randn(40, DIMENSIONS, generator=generator)
    centres = topics[torch.randint(40, (MEANINGS,), generator=generator)]
    centres = centres + 0.7 * torch.randn(MEANINGS, DIMENSIONS, generator=generator)
    shares = torch.rand(MEANINGS, generator=generator).pow(3)
    member = torch.multinomial(shares, rows, replacement=True, generator=generator)
    widths = 0.3 + 0.5 * torch.rand(MEANINGS, 1, generator=generator)
    found = centres[member] + widths[member] * torch.randn(rows, DIMENSIONS, generator=generator)
    return torch.nn.functional.normalize(found, dim=1)


def run(options: Options) -> Iterator[Result]:
    rows, k, repeats = options.pick(100_000, 2000), options.pick(256, 16), options.pick(3, 1)
    vectors = vectors_of(rows)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("scikit-learn", "faiss", "ours")}
    for seed in range(repeats):
        for name in found:
            if centroids := _timed(name, vectors, k, seed, options):
                found[name].append(centroids)
    for name, need in (("scikit-learn", 10.0), ("faiss", None)):
        if not found[name]:
            continue
        pairs = list(zip(found[name], found["ours"], strict=True))
        gaps = [ours[1] / theirs[1] - 1 for theirs, ours in pairs]
        worst = max(gaps)
        yield compared(
            f"anchors and codes of {rows:,} x {DIMENSIONS}, K {k}",
            {"scikit-learn": "scikit-learn KMeans(n_init=1)", "faiss": "faiss-cpu Kmeans, 25 rounds"}[name],
            [theirs[0] / ours[0] for theirs, ours in pairs],
            need=need,
            wrong=f"inertia {100 * worst:+.1f} %" if worst > 0.01 else "",
            beside={
                f"{name} s": round(statistics.median(theirs[0] for theirs, _ in pairs), 2),
                "ours s": round(statistics.median(ours[0] for _, ours in pairs), 2),
                "inertia ours/theirs - 1": ", ".join(f"{gap:+.2%}" for gap in gaps),
            },
        )


def _timed(name: str, vectors: torch.Tensor, k: int, seed: int, options: Options) -> tuple[float, float] | None:
    """Seconds for centroids and the codes of all rows, and the inertia; None where the peer is not installed."""
    threads = torch.get_num_threads()
    centroids = torch.empty(0)

    def ours() -> None:
        nonlocal centroids
        centroids = kmeans(vectors, k, AnchorsConfig().iterations, seed)
        Anchors(centroids[None], {}, AnchorsConfig(k=k), "").assign(vectors, COUNT)

    def sklearn() -> None:
        nonlocal centroids
        with threadpool_limits(threads):
            model = KMeans(k, n_init=1, random_state=seed).fit(vectors.numpy())
            distances = model.transform(vectors.numpy())
            np.argpartition(distances, COUNT, axis=1)
        centroids = torch.from_numpy(model.cluster_centers_).float()

    def faiss() -> None:
        nonlocal centroids
        library.omp_set_num_threads(threads)
        model = library.Kmeans(DIMENSIONS, k, niter=25, seed=seed + 1, max_points_per_centroid=len(vectors) // k + 1)
        model.train(vectors.numpy())
        model.index.search(vectors.numpy(), COUNT)
        centroids = torch.from_numpy(model.centroids)

    if name == "faiss":
        try:
            import faiss as library
        except ImportError:
            return None
    spent = seconds({"ours": ours, "scikit-learn": sklearn, "faiss": faiss}[name])
    return spent, inertia(vectors, centroids)
