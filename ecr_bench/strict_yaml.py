"""YAML as it is meant here: the types of JSON, each key once, no surprises (YAML 1.2 core schema).

``no``, ``1:30``, ``010`` and ``2026-01-01`` are text, ``1e-3`` is a number. Aliases and merge keys work, as long as
they do not loop or blow up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver

from ecr_bench.errors import UserError
from ecr_bench.names import DEEPEST, plain

LARGEST_TREE = 100_000
"""Values in a file once its aliases are written out."""

STRING, MERGE = BaseResolver.DEFAULT_SCALAR_TAG, "tag:yaml.org,2002:merge"
INTEGER, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
BOOLEAN, NULL = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"
QUOTED = ("'", '"')
"""Styles of a scalar that is text unless a tag says otherwise."""


class _Composer(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, BaseResolver):
    """Text to nodes, with tags of the core schema."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        BaseResolver.__init__(self)


for tag, pattern, first in (
    (BOOLEAN, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (INTEGER, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    (FLOAT, r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    (MERGE, r"<<", "<"),
):
    _Composer.add_implicit_resolver(tag, re.compile(f"(?:{pattern})$"), list(first))


class _Fault(Exception):
    """What is wrong, and the node where it is."""

    def __init__(self, node: Node, reason: str):
        super().__init__(reason)
        self.line = node.start_mark.line + 1


def parse_yaml(text: str, where: str) -> Any:
    """The value of ``text``; UserError names ``where``, the line, the key and what is allowed."""
    try:
        node = _Composer(text).get_single_node()
        return None if node is None else _Builder().value(node, "", ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark else text.count("\n", 0, getattr(error, "position", 0)) + 1
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise UserError(f"{where}:{line}: not YAML: {' '.join(str(reason).split())}") from None
    except _Fault as fault:
        raise UserError(f"{where}:{fault.line}: {fault}") from None
    except RecursionError:
        raise UserError(f"{where}: nested more than {DEEPEST} levels deep") from None


class _Builder:
    """Nodes to values, counting them."""

    def __init__(self) -> None:
        self.count = 0

    def value(self, node: Node, key: str, above: tuple[Node, ...]) -> Any:
        """``key``: the dotted key that leads here; ``above``: the nodes this one stands in."""
        self.count += 1
        if any(node is outer for outer in above):
            raise _Fault(node, f"{_place(key)}: holds itself (an alias inside of what it stands for)")
        if len(above) > DEEPEST:
            raise _Fault(node, f"{_place(key)}: nested more than {DEEPEST} levels deep")
        if self.count > LARGEST_TREE:
            raise _Fault(node, f"{_place(key)}: aliases make more than {LARGEST_TREE:,} values of this file")
        inside = (*above, node)
        if isinstance(node, SequenceNode) and node.tag == BaseResolver.DEFAULT_SEQUENCE_TAG:
            return [
                self.value(item, f"{key}.{index}".removeprefix("."), inside) for index, item in enumerate(node.value)
            ]
        if isinstance(node, MappingNode) and node.tag == BaseResolver.DEFAULT_MAPPING_TAG:
            return self._mapping(node, key, inside)
        if isinstance(node, ScalarNode):
            try:
                return _scalar(node)
            except ValueError as error:
                raise _Fault(node, f"{key or 'the value'}: {error} (got {node.value!r:.60})") from None
        raise _Fault(node, f"{key or 'the value'}: the tag {node.tag!r:.60} is not read here")

    def _mapping(self, node: MappingNode, key: str, inside: tuple[Node, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merging = 0  # the line of its '<<'
        for name, content in node.value:
            line = name.start_mark.line + 1
            if name.tag == MERGE and name.value == "<<":
                if merging:
                    raise _Fault(
                        name,
                        f"{_place(key)}: '<<' is there twice, in line {merging} and in line {line}: give one, with a "
                        "list of what it takes",
                    )
                merging = line
                for source in _sources(content):
                    if not isinstance(source, MappingNode):
                        raise _Fault(source, f"{_place(key)}: '<<' takes a mapping, or a list of mappings")
                    merged = self.value(source, key, inside) | merged
                continue
            _check_key(name, key)
            full = f"{key}.{name.value}".removeprefix(".")
            if name.value in lines:
                raise _Fault(name, f"key {full!r:.80} is there twice, in line {lines[name.value]} and in line {line}")
            lines[name.value] = line
            own[name.value] = self.value(content, full, inside)
        return merged | own


def _place(key: str) -> str:
    """Where a fault is, in words: the dotted key, or the file where it is at the top."""
    return f"{key:.60}" if key else "the file"


def _sources(content: Node) -> list[Node]:
    """What a ``<<`` takes."""
    listed = isinstance(content, SequenceNode) and content.tag == BaseResolver.DEFAULT_SEQUENCE_TAG
    return content.value if listed else [content]


def _check_key(name: Node, key: str) -> None:
    if not isinstance(name, ScalarNode):
        raise _Fault(name, f"{_place(key)}: the key is a list or mapping: must be text")
    if name.tag not in _READ or (name.tag != STRING and name.style in QUOTED):
        raise _Fault(name, f"{_place(key)}: the tag {name.tag!r:.60} of the key {name.value!r:.60} is not read here")
    if name.tag != STRING:
        raise _Fault(name, f"{_place(key)}: the key {name.value!r:.60} is no text; put it in quotes")
    try:
        plain(name.value)
    except ValueError as error:
        raise _Fault(name, f"{_place(key)}: {error} in the key {name.value!r:.60}") from None


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    if len(digits) > 40:
        raise ValueError("whole numbers must be below 2**63")
    return int(text, {"0o": 8, "0x": 16}.get(digits[:2], 10))


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_READ: dict[str, Callable[[str], Any]] = {
    STRING: str,
    NULL: lambda text: None,
    BOOLEAN: _boolean,
    INTEGER: _integer,
    FLOAT: lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}
"""Tag of a scalar -> what reads its text."""


def _scalar(node: ScalarNode) -> Any:
    """ValueError where the text is not what its tag says, or the value is not plain."""
    if node.tag not in _READ:
        raise ValueError(f"the tag {node.tag!r:.60} is not read here")
    try:
        return plain(_READ[node.tag](node.value))
    except KeyError:
        raise ValueError("must be true or false") from None
