"""Values inside nested mappings, by the steps that lead to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def value_at(node: Any, path: Sequence[str]) -> Any:
    """What nested mappings have there; None where there is nothing."""
    for step in path:
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def has_path(node: Any, path: Sequence[str]) -> bool:
    """Whether nested mappings have something there, None perhaps."""
    above = value_at(node, path[:-1])
    return isinstance(above, Mapping) and path[-1] in above


def put_at(node: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of ``node`` with the value there; nothing that it shares with the original is changed."""
    step, *rest = path
    before = node if isinstance(node, Mapping) else {}
    return {**before, step: put_at(before.get(step), rest, value) if rest else value}
