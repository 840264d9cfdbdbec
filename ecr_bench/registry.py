"""Names that map to objects, one line each, imported only when asked for."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ecr_bench.errors import unknown


@dataclass
class Registry:
    """A closed set of named things of one kind (method, teacher, corpus, ...).

    A value is either the object itself or a ``"module:attribute"`` string, which is imported on
    first use so that listing names costs no heavy import.
    """

    kind: str
    entries: dict[str, Any] = field(default_factory=dict)
    help: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """Module that registered a name, for names that were added."""

    def add(self, name: str, value: Any, help: str = "") -> None:
        """Register ``value`` (object or ``"module:attribute"``) under ``name``."""
        self.entries[name] = value
        self.help[name] = help
        self.origins[name] = str(sys._getframe(1).f_globals["__name__"])

    def check(self, name: str) -> None:
        """UserError that lists the names there are, if ``name`` is none; imports nothing."""
        if name not in self.entries:
            raise unknown(self.kind, name, self.entries)

    def modules(self, name: str) -> list[str]:
        """Modules whose code makes the object called ``name``: its own and the one that registered it.

        UserError lists the names that exist.
        """
        self.check(name)
        value = self.entries[name]
        if isinstance(value, str):
            own = value.partition(":")[0]
        else:
            module = inspect.getmodule(value) or inspect.getmodule(type(value))
            own = module.__name__ if module else ""
        # a list of the package's own says only where things are
        origin = self.origins.get(name, "") if not isinstance(value, str) else ""
        return sorted({own, origin} - {""})

    def get(self, name: str) -> Any:
        """Return the object called ``name``; UserError lists the names that exist."""
        self.check(name)
        value = self.entries[name]
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = getattr(importlib.import_module(module), attribute)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: str) -> bool:
        return name in self.entries
