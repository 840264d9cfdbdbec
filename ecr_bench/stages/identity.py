"""What decides the result of a stage, and a key that is the same where all of it is the same."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ecr_bench import fast
from ecr_bench.fast.switch import VARIABLE, plain
from ecr_bench.hub import COMMIT
from ecr_bench.io import fingerprint
from ecr_bench.outside import identity_json
from ecr_bench.section import Section
from ecr_bench.source_code import code_of
from ecr_bench.stages.work import Work

_FUNCTION = re.compile(r"!function\s+([\w.]+)\.\w+")
"""A function that an lm-eval YAML names."""

_PINNED = re.compile(rf"\S+@{COMMIT.pattern}")
"""As ``outside.model_counts`` writes it."""

_PLUGIN = re.compile(r"ecr_bench_plugin_(\w+)_[0-9a-f]{8}")


@dataclass(frozen=True)
class Identity:
    """Derived, never listed: from the stage's settings, from its file's imports, and from the data it declares."""

    kind: str
    settings: Mapping[str, Any]
    """Plain JSON. Files and folders from outside stand in it by their content, names of a hub by commit."""
    inputs: Mapping[str, str]
    """Role -> key of the stage that plays it."""
    files: Mapping[str, str]
    """Module, or name of a declared file -> hash."""
    packages: Mapping[str, str | None]
    """Distribution -> version."""
    device: str | None
    """``cpu`` or ``cuda``; None for a stage that imports nothing that could use a GPU."""
    plain: bool
    """Whether it goes the plain way where it could be faster (``fast.switch``): its numbers differ in rounding."""

    @cached_property
    def key(self) -> str:
        return fingerprint(self.to_json())

    @property
    def stage_id(self) -> str:
        """``kind/key``."""
        return f"{self.kind}/{self.key}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as ``done.json`` keeps it."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @property
    def pinned(self) -> frozenset[str]:
        """Names of the hub that the settings hold, as ``NAME@COMMIT``."""
        return frozenset(text for text in _texts(self.settings) if _PINNED.fullmatch(text))

    def differences(self, other: Identity) -> list[str]:
        """What ``other`` has otherwise, in words; empty where both are the same."""
        found = [f"setting {name}" for name in _changed(self.settings, other.settings)]
        found += [f"input {name}" for name in _changed(self.inputs, other.inputs)]
        found += [f"file {name}" for name in _changed(self.files, other.files)]
        found += [
            f"package {name} ({self.packages.get(name)}, now {other.packages.get(name)})"
            for name in _changed(self.packages, other.packages)
        ]
        if self.device != other.device:
            found.append(f"device ({self.device}, now {other.device})")
        if self.plain != other.plain:
            found.append(f"{VARIABLE} ({int(self.plain)}, now {int(other.plain)})")
        return found


def identity_of(work: type[Work[Any, Any, Any]], settings: Section, inputs: Mapping[str, str]) -> Identity:
    """The identity of ``work`` with ``settings`` on ``inputs``, on this machine as it is now."""
    chosen = list(work.chosen(settings))
    data = sorted(work.data(settings))
    modules = {inspect.getmodule(work).__name__}  # type: ignore[union-attr]
    modules |= {module for registry, names in chosen for name in names for module in registry.modules(name)}
    modules |= {module for path in data for module in _FUNCTION.findall(path.read_text(encoding="utf-8"))}
    code = code_of(modules, {registry.kind for registry, _ in chosen})
    files = {**_named(code.files), **{f"{path.parent.name}/{path.name}": _hash(path) for path in data}}
    device = None
    if "torch" in code.packages:
        from ecr_bench.device import device as device_class

        device = device_class()
    slow = plain() and any(module.startswith(f"{fast.__name__}.") for module in code.files)
    return Identity(work.kind, identity_json(settings), dict(inputs), files, dict(code.packages), device, slow)


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _named(files: Mapping[str, str]) -> dict[str, str]:
    """Modules under names that are the same everywhere: that of a plugin given as a file says where the file lies."""
    named: dict[str, str] = {}
    for module, digest in sorted(files.items(), key=lambda item: (item[1], item[0])):
        plugin = _PLUGIN.fullmatch(module)
        name = f"plugin {plugin[1]}" if plugin else module
        named[f"{name} {digest}" if name in named else name] = digest
    return dict(sorted(named.items()))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    yield from sorted(name for name in one.keys() | other.keys() if one.get(name, ...) != other.get(name, ...))
