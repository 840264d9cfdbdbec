"""Language taken out of a teacher's embeddings: the mean of each language is subtracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def language_means(vectors: torch.Tensor, langs: Sequence[str]) -> dict[str, torch.Tensor]:
    """Mean (d,) float32 of the rows of ``vectors`` (N, d) in each language, summed in float64."""
    names = sorted(set(langs))
    rows = {name: index for index, name in enumerate(names)}
    index = torch.tensor([rows[lang] for lang in langs], dtype=torch.int64)
    sums = torch.zeros(len(names), vectors.shape[1], dtype=torch.float64).index_add_(0, index, vectors.double())
    counts = torch.bincount(index, minlength=len(names))
    means = (sums / counts[:, None]).float()
    return {name: means[row].clone() for name, row in rows.items()}


def centred(vectors: torch.Tensor, langs: Sequence[str], means: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """``vectors`` (N, d) less the mean of each row's language, float32; as they are where there are no means.

    A language without a mean gets the mean of the language means.
    """
    vectors = vectors.float()
    if not means:
        return vectors
    names = sorted(means)
    known = torch.stack([means[name] for name in names])
    known = torch.cat([known, known.mean(0, keepdim=True)])
    rows = {name: index for index, name in enumerate(names)}
    return vectors - known[torch.tensor([rows.get(lang, len(names)) for lang in langs], dtype=torch.int64)]
