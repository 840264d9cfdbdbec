"""Character trigrams, hashed into sparse rows: the surface similarity all builders and baselines share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

_VECTORIZER = HashingVectorizer(
    analyzer="char",
    ngram_range=(3, 3),
    binary=True,
    norm=None,
    alternate_sign=False,
    n_features=1 << 15,
    dtype=np.float32,
)


def trigrams(texts: Sequence[str]) -> csr_matrix:
    """(n, 2^15) float32 0/1 rows of the case-folded texts, a space put around each so that ``5`` has one."""
    rows: csr_matrix = _VECTORIZER.transform([f" {text.casefold()} " for text in texts])
    return rows


def sizes(rows: csr_matrix) -> np.ndarray:
    """(n,) number of distinct trigrams of each row, at least 1."""
    return np.maximum(np.diff(rows.indptr), 1)


def dice(rows: csr_matrix) -> np.ndarray:
    """(n, n) float32 Dice coefficients between all rows."""
    n = sizes(rows)
    return 2 * (rows @ rows.T).toarray() / (n[:, None] + n[None, :])


def contained(options: csr_matrix, texts: csr_matrix) -> np.ndarray:
    """(n,) share of the trigrams of ``options[i]`` that ``texts[i]`` has."""
    return np.asarray(options.multiply(texts).sum(axis=1)).ravel() / sizes(options)
