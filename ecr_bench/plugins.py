"""Methods, teachers, corpora and tasks from outside the package.

A plugin is a Python file (``--plugin my_method.py``) or an entry point in the group
``ecr_bench.plugins``. Importing it must register what it adds:

    from ecr_bench.methods.registry import METHODS
    METHODS.add("mine", MyMethod)
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path

from ecr_bench.errors import UserError


def load_plugins(files: tuple[str, ...] = ()) -> None:
    """Import all entry points, then ``files``. UserError names the plugin that fails and why."""
    for entry in entry_points(group="ecr_bench.plugins"):
        try:
            entry.load()
        except Exception as error:
            raise UserError(f"plugin {entry.name}: {type(error).__name__}: {error}") from error
    for file in files:
        _load_file(Path(file))


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"--plugin: no such file: {path}")
    name = f"ecr_bench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {path}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"--plugin {path}: {type(error).__name__}: {error}") from error
