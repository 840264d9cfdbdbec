"""Which layers of a model are kept, by their number alone. No torch here: plans are checked with it."""

from __future__ import annotations

from collections.abc import Sequence

from ecr_bench.errors import UserError


def check_layers(kept: Sequence[int], total: int, who: str) -> None:
    """UserError that begins with ``who`` for numbers that are no layers of ``total``."""
    if odd := [index for index in kept if not 0 <= index < total]:
        raise UserError(f"{who}: {odd[0]} is no layer: it has {total}, allowed are 0 to {total - 1}")


def check_count(count: int, total: int, who: str) -> None:
    """UserError that begins with ``who`` where ``count`` layers cannot be kept of ``total``."""
    if count > total:
        raise UserError(f"{who}: {count} layers cannot be kept of {total}: at most {total}")


def even(count: int, total: int) -> list[int]:
    """``count`` of ``total`` layers at even distances, the first and the last among them (the first alone for 1)."""
    return [round(index * (total - 1) / max(1, count - 1)) for index in range(count)]


def ends(count: int, total: int) -> list[int]:
    """The first half of ``count`` from the beginning, the rest from the end of ``total`` layers."""
    first = (count + 1) // 2
    return [*range(first), *range(total - (count - first), total)]
