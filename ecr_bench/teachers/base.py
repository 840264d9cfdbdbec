"""What a teacher is: something that embeds text, with a fingerprint that says exactly what did it."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from ecr_bench.errors import UserError

Progress = Callable[[int], None]
"""Called with the number of texts done so far."""


PoolingKind = Literal["mean", "cls", "last"]


class Teacher(Protocol):
    """A frozen text encoder. Built cheaply: weights are read on the first ``embed``.

    The class may declare what it takes as ``Options``; it is called with one of those.
    """

    name: str
    dim: int
    fingerprint: str
    """Hash of the name, the version or weights, and every option that changes an embedding."""

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, dim) float32, unit L2 norm, rows in the order of ``texts``."""
        ...


@runtime_checkable
class HasSource(Protocol):
    """A teacher that is read from a folder or from the hub."""

    source: str
    """What it is read from: content of the folder, or name and commit."""


def installed_version(teacher: str, distribution: str, command: str) -> str:
    """Version of ``distribution`` without local part; UserError gives the pip ``command`` if it is not installed."""
    try:
        return re.sub(r"\+.*", "", importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"teacher {teacher!r} needs the package {distribution}: {command}") from None


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_chunks(
    encode: Callable[[list[str]], np.ndarray], texts: Sequence[str], size: int, dim: int, on_progress: Progress | None
) -> np.ndarray:
    """Run ``encode`` over ``texts`` in chunks of ``size``, reporting progress after each. (N, dim) float32."""
    result = np.empty((len(texts), dim), dtype=np.float32)
    for start in range(0, len(texts), size):
        chunk = list(texts[start : start + size])
        result[start : start + len(chunk)] = encode(chunk)
        if on_progress is not None:
            on_progress(start + len(chunk))
    return result
