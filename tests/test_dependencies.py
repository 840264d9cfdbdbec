"""What is imported is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.helpers.outside import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IMPORTED = {"accelerate", "tensorboard", "home-assistant-intents"}
"""Imported by transformers (device_map) and by lightning's logger; data, read through importlib.resources."""


def names(requirements: Iterable[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in requirements}  # type: ignore[index]


def imported(folder: Path) -> set[str]:
    """Distributions behind the top-level modules that ``folder`` imports anywhere, in type-checking blocks as well."""
    tops = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                tops |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops.add(str(node.module).partition(".")[0])
    homes = packages_distributions()
    found = {top: homes.get(top, [top]) for top in tops - set(sys.stdlib_module_names) - {"ecr_bench"}}
    return {name.lower().replace("_", "-") for home in found.values() for name in home}


DECLARED = names(PROJECT["dependencies"])
EXTRAS = {name: names(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def test_what_is_imported_is_declared() -> None:
    optional = set.union(*(lines for name, lines in EXTRAS.items() if name != "dev"))
    assert imported(ROOT / "ecr_bench") - DECLARED - optional == set()


def test_what_is_declared_is_imported() -> None:
    assert DECLARED - imported(ROOT / "ecr_bench") - NOT_IMPORTED == set()


def test_extras_are_used() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "ecr_bench").rglob("*.py"))
    for name, lines in EXTRAS.items():
        if name != "dev":  # an extra is named in the message that says how to get it
            assert f"ecr-bench[{name}]" in text and lines


def test_production_code_does_not_mock() -> None:
    assert not [path for path in (ROOT / "ecr_bench").rglob("*.py") if "unittest" in path.read_text(encoding="utf-8")]
