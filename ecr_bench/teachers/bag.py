"""Teacher ``bag``: a static bag of character n-grams. It knows no language: what it gives, surface gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ecr_bench.io import fingerprint
from ecr_bench.section import Section, Seed
from ecr_bench.teachers.base import Progress, in_chunks

if TYPE_CHECKING:
    from sklearn.random_projection import SparseRandomProjection

FEATURES = 2**16
NGRAMS = (1, 4)


class BagTeacher:
    """Unit vectors: hashed counts of character 1- to 4-grams (within words), projected at random.

    A sparse random projection (Li, Hastie & Church 2006, doi 10.1145/1150402.1150436) keeps the cosines of the
    counts up to noise. Two languages meet only in shared spelling, so ECR with this teacher shows what
    anchors are worth without knowledge from outside.
    """

    class Options(Section):
        """The random projection."""

        dim: int = Field(default=256, ge=2, le=65_536)
        """Dimensions of the random projection."""
        seed: Seed = 0
        """Seed of the random projection."""

    name = "bag"

    def __init__(self, options: Options):
        import sklearn
        from sklearn.feature_extraction.text import HashingVectorizer

        self.dim, self.seed = options.dim, options.seed
        identity = [self.name, self.dim, self.seed, FEATURES, NGRAMS, sklearn.__version__]
        self.fingerprint = f"{self.name}-{fingerprint(identity)}"
        self._counts = HashingVectorizer(
            analyzer="char_wb", ngram_range=NGRAMS, n_features=FEATURES, norm=None, alternate_sign=False
        )

    @cached_property
    def _projection(self) -> SparseRandomProjection:
        from sklearn.random_projection import SparseRandomProjection

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
