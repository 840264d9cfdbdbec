"""Teacher ``bag``: a static bag of character n-grams. It knows no language: what it gives, surface gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sklearn
from pydantic import Field
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.random_projection import SparseRandomProjection

from ecr_bench.io import fingerprint
from ecr_bench.section import Section
from ecr_bench.teachers.base import Progress, in_chunks, read_options

FEATURES = 2**16
NGRAMS = (1, 4)


class BagOptions(Section):
    dim: int = Field(default=256, ge=2)
    """Dimensions of the random projection."""
    seed: int = 0
    """Seed of the random projection."""


class BagTeacher:
    """Unit vectors: hashed counts of character 1- to 4-grams (within words), projected at random.

    A sparse random projection (Li, Hastie & Church 2006, doi 10.1145/1150402.1150436) keeps the cosines of the
    counts up to noise. Two languages meet only in shared spelling, so ECR with this teacher shows what
    anchors are worth without knowledge from outside.
    """

    name = "bag"

    def __init__(self, options: dict[str, Any]):
        chosen = read_options(BagOptions, self.name, options)
        self.dim, self.seed = chosen.dim, chosen.seed
        identity = [self.name, self.dim, self.seed, FEATURES, NGRAMS, sklearn.__version__]
        self.fingerprint = f"{self.name}-{fingerprint(identity)}"
        self._counts = HashingVectorizer(
            analyzer="char_wb", ngram_range=NGRAMS, n_features=FEATURES, norm=None, alternate_sign=False
        )

    @cached_property
    def _projection(self) -> SparseRandomProjection:
        shape = np.zeros((1, FEATURES))
        return SparseRandomProjection(n_components=self.dim, random_state=self.seed).fit(shape)

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, dim) float32, unit L2 norm; a text of white space gives the zero vector."""
        return in_chunks(self._encode, texts, 1024, self.dim, on_progress)

    def _encode(self, texts: list[str]) -> np.ndarray:
        counts = self._counts.transform(texts)
        counts.data = np.log1p(counts.data)
        projected = self._projection.transform(counts)
        vectors = projected.toarray() if hasattr(projected, "toarray") else np.asarray(projected)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)
