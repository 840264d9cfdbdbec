"""Semantic anchors of more embeddings than memory holds: a sample is clustered, mini-batches of the rest refine it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.kmeans import nearest
from ecr_bench.ecr.rows import PART, Centred, Vectors
from ecr_bench.ecr.selection import select
from ecr_bench.errors import UserError
from ecr_bench.sections import AnchorsConfig

SAMPLE, SAMPLE_ROWS = 100_000, 80
"""Rows of the sample at least, and rows a cluster."""


def fit_streamed(
    vectors: Vectors, langs: Sequence[str], config: AnchorsConfig, levels: int, teacher_fingerprint: str
) -> Anchors:
    """As ``anchors.fit_anchors``, of the first ``len(langs)`` of ``vectors``, reading a part of them at a time.

    Anchors are selected from a sample; with ``kmeans`` each other row then moves the one it is nearest to (mini-batch
    k-means, Sculley 2010, doi 10.1145/1772690.1772862), which weighs as much as the rows it has had so far.

    UserError for a sample with fewer distinct rows than K.
    """
    means = streamed_means(vectors, langs) if config.centre else {}
    rows = Centred(vectors, langs, means)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(config.seed)).numpy()
    count = max(SAMPLE, SAMPLE_ROWS * config.k)
    drawn = np.sort(order[:count])
    sample = rows.at(drawn)
    distinct = len({row.tobytes() for row in sample.numpy()})
    if distinct < config.k:
        raise UserError(f"anchors.k {config.k} is larger than the {distinct} distinct embeddings of {len(sample):,}")
    others = np.setdiff1d(np.arange(len(rows)), drawn)
    found: list[torch.Tensor] = []
    for level in range(levels if config.assignment == "residual" else 1):
        rest = _left_by(sample, found)
        centroids = select(rest, config, config.seed + level)
        if config.selection == "kmeans":
            parts = (others[start : start + PART] for start in range(0, len(others), PART))
            centroids = mini_batches((_left_by(rows.at(part), found) for part in parts), centroids, rest)
        found.append(centroids)
    return replace(Anchors(torch.stack(found), means, config, teacher_fingerprint), mini_batch=True)


def mini_batches(parts: Iterable[torch.Tensor], centroids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Centroids (K, d) after each of ``parts`` (n, d) has moved them; they came of the rows ``seen`` (M, d)."""
    counts = torch.bincount(nearest(seen, centroids)[1], minlength=len(centroids))
    for rows in parts:
        _, codes = nearest(rows, centroids)
        added = torch.bincount(codes, minlength=len(centroids))
        counts = counts + added
        sums = torch.zeros_like(centroids).index_add_(0, codes, rows)
        centroids = centroids + (sums - added[:, None] * centroids) / counts.clamp(min=1)[:, None]
    return centroids


def streamed_means(vectors: Vectors, langs: Sequence[str]) -> dict[str, torch.Tensor]:
    """``centring.language_means``, a part at a time."""
    names = sorted(set(langs))
    number = {name: index for index, name in enumerate(names)}
    codes = torch.tensor([number[lang] for lang in langs], dtype=torch.int64)
    sums: torch.Tensor | None = None
    for start in range(0, len(langs), PART):
        part = torch.from_numpy(vectors[start : min(start + PART, len(langs))]).double()
        sums = torch.zeros(len(names), part.shape[1], dtype=torch.float64) if sums is None else sums
        sums.index_add_(0, codes[start : start + PART], part)
    assert sums is not None
    means = (sums / torch.bincount(codes, minlength=len(names))[:, None]).float()
    return {name: means[index].clone() for name, index in number.items()}


def _left_by(rows: torch.Tensor, levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """What the residual ``levels`` leave of ``rows``."""
    for centroids in levels:
        rows = rows - centroids[nearest(rows, centroids)[1]]
    return rows
