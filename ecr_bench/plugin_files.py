"""The files of plugins, as another process or machine is told of them; ``plugins`` imports them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

GIVEN: dict[str, str] = {}
"""Plugins that were given as files and loaded, in their order -> name of the module."""


@dataclass(frozen=True)
class PluginSource:
    """The file of a plugin, to be loaded on another machine under the name it has here."""

    path: str
    """Where it lies here."""
    module: str
    source: bytes

    @classmethod
    def of(cls, file: str) -> PluginSource:
        path = Path(file).resolve()
        return cls(str(path), module_name(path), path.read_bytes())


def module_name(path: Path) -> str:
    """What a plugin's module is called: one name for one place."""
    return f"ecr_bench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def given_files() -> tuple[PluginSource, ...]:
    """The plugins that were given as files: what another process must be told of."""
    return tuple(PluginSource(path, module, Path(path).read_bytes()) for path, module in GIVEN.items())
