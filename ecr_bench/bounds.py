"""What is allowed, for whoever gave something else: pydantic names the bound that is hit and not the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ecr_bench.formats import many

BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("minimum", "greater than or equal to"),
    "greater_than": ("exclusiveMinimum", "greater than"),
    "less_than_equal": ("maximum", "less than or equal to"),
    "less_than": ("exclusiveMaximum", "less than"),
}
"""Type of pydantic's error -> key of the JSON schema, words."""


def reason(error: ErrorDetails, root: type[BaseModel]) -> str:
    """pydantic's words for what is wrong with a value of a ``root``; of a list too short how many it needs, of a
    number out of bounds both: ``Input should be greater than or equal to 0 and less than 4294967296``."""
    if error["type"] == "too_short":
        return f"must have at least {many(error['ctx']['min_length'], 'value')}"
    bounds = _between(root, error["loc"]) if error["type"] in BOUNDS else ""
    return f"Input should be {bounds}" if bounds else error["msg"].removeprefix("Value error, ")


def _between(root: type[BaseModel], location: Sequence[int | str]) -> str:
    """The bounds at ``location`` in words; empty where the schema of ``root`` has none there."""
    schema: Mapping[str, Any] = root.model_json_schema()
    definitions = schema.get("$defs", {})
    nodes = [schema]
    for part in location:
        branches = [branch for node in nodes for branch in _branches(node, definitions)]
        # a part that leads nowhere names one of several kinds that stand there, whose fields come next
        nodes = [child for branch in branches for child in _children(branch, part)] or branches
    bounded = [branch for node in nodes for branch in _branches(node, definitions)]
    found = {key: branch[key] for key, _ in BOUNDS.values() for branch in bounded if key in branch}
    return " and ".join(f"{words} {found[key]}" for key, words in BOUNDS.values() if key in found)


def _branches(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The node itself, what it refers to, and each of its alternatives."""
    yield node
    if "$ref" in node:
        yield from _branches(definitions[node["$ref"].rpartition("/")[2]], definitions)
    for key in ("anyOf", "oneOf", "allOf"):
        for option in node.get(key, ()):
            yield from _branches(option, definitions)


def _children(node: Mapping[str, Any], part: int | str) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        found = (node.get("items"), *node.get("prefixItems", ())[part : part + 1])
    else:
        found = (node.get("properties", {}).get(part, node.get("additionalProperties")),)
    yield from (child for child in found if isinstance(child, Mapping))
