"""Peak memory of a piece of work, in bytes."""

from __future__ import annotations

import gc

import torch

from ecr_bench.system import (
    memory_free,
    memory_limit,
    peak_resident,
    reset_peak_resident,
    resident,
    return_freed_memory,
)

_highest = 0
"""Peak of the parts of a piece of work that are over."""


def reset_peak_memory() -> None:
    """Start counting anew, on the GPU and (Linux only) for this process.

    What earlier work has freed goes back to the system first: it would count as in use otherwise.
    """
    global _highest
    _highest = max(_highest, peak_memory())
    gc.collect()
    return_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    reset_peak_resident()


def peak_memory() -> int:
    """Bytes: the GPU's allocated peak where there is one, else the largest resident size of the process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_resident()


def begin_whole() -> None:
    """Start counting for a piece of work whose parts may call ``reset_peak_memory``."""
    global _highest
    reset_peak_memory()
    _highest = 0


def peak_of_whole() -> int:
    """Bytes: the highest peak since ``begin_whole``, those of its parts included."""
    return max(_highest, peak_memory())


class Holes:
    """What a repeated piece of work has freed goes back to the system once the process holds half as much again as a
    piece needs.

    Blocks of many sizes that come and go leave holes between them, which glibc keeps: a training whose batches differ
    in length would take twice the memory of its largest step, and more the longer it runs. Pages that were given back
    cost time when they are wanted again, so that it is not done for less.
    """

    ALLOWED = 1.5
    """Times the most that was held after a piece that began without holes."""

    def __init__(self) -> None:
        self._needed = 0
        self._closed = True
        """Whether the piece that ends now began without holes."""

    def after_piece(self) -> None:
        held = resident()
        if self._closed:
            self._needed = max(self._needed, held)
        self._closed = held > self.ALLOWED * self._needed
        if self._closed:
            return_freed_memory()


def free_memory() -> int:
    """Bytes that a model could still take: of the GPU where there is one, else of this process."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else memory_free()


def model_memory() -> int:
    """Bytes that a model can have at most: the GPU's where there is one, else what the process can have."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return memory_limit()
