"""Sentences that say the same in another language, found by an encoder alone: bitext mining across two sets.

Two sentences are taken as near translations where each is the other's nearest in its language (as in MEXA, Kargaran et
al. 2024, arXiv 2410.05873) and they are alike enough by ``SIMILAR``. Similarity is the cosine after each language's
mean is taken away, which makes one threshold do for encoders of any scale and for corpora of any breadth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

SIMILAR = 0.6
"""Least centred cosine of near translations: the lowest in steps of .05 at which, in every set of known translations
that was looked at, at most one test row in ten was matched although nothing in training translates it. Less similar
translations are missed, so a share of matched rows is a lower bound (docs/lab-book.md)."""
LEAST_ROWS = 10
"""Rows from which on a language's mean says something; languages with fewer are left out."""


def centred(vectors: torch.Tensor, languages: Sequence[str]) -> torch.Tensor:
    """(n, d) unit rows after each language's mean is subtracted; rows of languages with few rows become zero."""
    result = torch.zeros_like(vectors)
    for rows in _by_language(languages).values():
        if len(rows) >= LEAST_ROWS:
            result[rows] = normalize(vectors[rows] - vectors[rows].mean(0), dim=1)
    return result


def near_translations(
    vectors: torch.Tensor, languages: Sequence[str], training: torch.Tensor, similar: float = SIMILAR
) -> torch.Tensor:
    """For each row outside of training, the training row of another language that nearly translates it.

    Args:
        vectors: (n, d) float32.
        languages: n languages.
        training: (n,) bool, which rows are training rows.
        similar: least centred cosine.

    Returns:
        (n,) int64: index of the most similar such training row; -1 where there is none, and for training rows.
    """
    if vectors.ndim != 2 or not len(vectors) == len(languages) == len(training):
        raise ValueError(f"{tuple(vectors.shape)} vectors, {len(languages)} languages, {tuple(training.shape)} splits")
    unit = centred(vectors, languages)
    groups = _by_language(languages)
    found = torch.full((len(vectors),), -1, dtype=torch.int64)
    best = torch.full((len(vectors),), similar, dtype=unit.dtype)
    for lang, rows in groups.items():
        asked = rows[~training[rows]]
        for other, candidates in groups.items():
            candidates = candidates[training[candidates]]
            if other == lang or not len(asked) or not len(candidates):
                continue
            there = (unit[asked] @ unit[candidates].T).max(1)
            nearest = candidates[there.indices]
            back = rows[(unit[nearest] @ unit[rows].T).argmax(1)]
            better = (back == asked) & (there.values >= best[asked])
            best[asked[better]], found[asked[better]] = there.values[better], nearest[better]
    return found


def _by_language(languages: Sequence[str]) -> dict[str, torch.Tensor]:
    """Language -> its rows, ascending."""
    rows: dict[str, list[int]] = {}
    for row, lang in enumerate(languages):
        rows.setdefault(lang, []).append(row)
    return {lang: torch.tensor(indices) for lang, indices in rows.items()}
