"""Methods, teachers, corpora and tasks from outside the package.

A plugin is a Python file (``--plugin my_method.py``) or an entry point in the group
``ecr_bench.plugins``. Importing it must register what it adds:

    from ecr_bench.methods.registry import METHODS, MODIFIERS
    METHODS.add("mine", MyMethod)
    MODIFIERS.add("my-way", MyModifier)

What it registers is checked at once, and its source is part of the identity of the stages that use it, so that an
edited plugin is run again. What it raises later is traced back to its file (``blame``).
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import inspect
import re
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.plugin_files import GIVEN, PluginSource, module_name
from ecr_bench.scratch import scratch

_files: set[str] = set()
"""Files of the plugins that were loaded."""


def load_plugins(files: tuple[str, ...] = ()) -> None:
    """Import all entry points, then ``files``. UserError names the plugin that fails and why."""
    for entry in entry_points(group="ecr_bench.plugins"):
        try:
            entry.load()
            _files.add(str(getattr(sys.modules[entry.module], "__file__", "")))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(f"plugin {entry.name}: {_reason(error)}") from error
        _check(f"plugin {entry.name}")
    for file in files:
        _load_file(Path(file))


def load_source(source: PluginSource) -> None:
    """Import a plugin: the file itself where it lies here as well, else a copy in a folder of this process's own."""
    path = Path(source.path)
    if source.module not in sys.modules and (not path.is_file() or path.read_bytes() != source.source):
        until_the_end = contextlib.ExitStack()
        path = until_the_end.enter_context(scratch()) / path.name
        atexit.register(until_the_end.close)
        path.write_bytes(source.source)
    _load_file(path, source.module)


def _load_file(path: Path, name: str = "") -> None:
    if not path.is_file():
        raise UserError(f"--plugin: no such file: {path}")
    name = name or module_name(path)
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {path}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        _files.add(str(module.__file__))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"--plugin {path}: {_reason(error)}") from error
    try:
        _check(f"--plugin {path}")
    except UserError:
        del sys.modules[name]
        raise
    GIVEN[str(path.resolve())] = name


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def blame(error: BaseException) -> UserError | None:
    """One line for what was raised in, or by what was called from, a plugin's code; None if none had a part in it.

    Works for errors of worker processes as well, whose traceback arrives as text.
    """
    text = "".join(traceback.format_exception(error))
    places = re.findall(r'File "(.+)", line (\d+)', text)
    found = [(file, line) for file, line in places if file in _files]
    return UserError(f"plugin {found[-1][0]}, line {found[-1][1]}: {_reason(error)}") if found else None


def _check(who: str) -> None:
    """UserError naming the first registered object that cannot be what it was registered as."""
    from ecr_bench.corpora.registry import CORPORA
    from ecr_bench.engines.registry import ENGINES
    from ecr_bench.items.registry import TASKS
    from ecr_bench.methods.registry import METHODS, MODIFIERS
    from ecr_bench.registry import Registry
    from ecr_bench.teachers.registry import TEACHERS

    registries: tuple[Registry, ...] = (METHODS, MODIFIERS, TEACHERS, CORPORA, TASKS, ENGINES)
    for registry in registries:
        for name, value in list(registry.entries.items()):
            if isinstance(value, str):
                if value.startswith("ecr_bench."):  # our own, imported when first used
                    continue
                try:
                    value = registry.get(name)
                except Exception as error:
                    raise UserError(f"{who}: {registry.kind} {name!r} is not at {value!r}: {_reason(error)}") from error
            if registry is METHODS or registry is MODIFIERS:
                other = MODIFIERS if registry is METHODS else METHODS
                problem = f"is a {other.kind} already" if name in other else _part_problem(name, value, registry.kind)
            else:
                problem = _callable_problem(value, registry.kind)
            if problem := problem or _options_problem(value):
                del registry.entries[name]
                registry.help.pop(name, None)
                raise UserError(f"{who}: {registry.kind} {name!r} {problem}")


def _part_problem(name: str, value: Any, kind: str) -> str:
    """What is wrong with a method or modifier."""
    from ecr_bench.methods.method import Method, Modifier

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name):
        return "must be named with letters, digits, '_' and '-', at most 40 of them"
    base = {"method": Method, "modifier": Modifier}[kind]
    if not (isinstance(value, type) and issubclass(value, base)):
        return f"must be a subclass of ecr_bench.methods.method.{base.__name__}"
    if issubclass(value, Method) and value.source is Method.source:
        return "must define 'source(self, given)': where its codes come from, or None"
    return "" if (value.__doc__ or "").strip() else "must have a docstring: its first line is shown in lists"


def _options_problem(value: Any) -> str:
    from ecr_bench.options import options_of
    from ecr_bench.section import Section

    try:
        kind = options_of(value)
    except Exception as error:
        return f"must have an annotation of 'options' that can be read: {_reason(error)}"
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        return "must declare its Options as a subclass of ecr_bench.section.Section"
    bare = [name for name, field in kind.model_fields.items() if not field.description]
    return f"must have a docstring below its option {bare[0]!r}: it is shown in lists" if bare else ""


PARAMETERS = {
    "teacher": ("options",),
    "corpus": ("config",),
    "engine": ("wanted",),
    "task": ("frame", "split", "languages", "count", "seed", "pairs"),
}
"""What each kind is called with."""


def _callable_problem(value: Any, kind: str) -> str:
    wanted = PARAMETERS[kind]
    if kind == "corpus" and callable(value) and "options" in inspect.signature(value).parameters:
        wanted = (*wanted, "options")
    if not callable(value):
        return f"must be callable with ({', '.join(wanted)})"
    by_name = dict.fromkeys(wanted) if kind == "task" else {}
    try:
        inspect.signature(value).bind(*([] if by_name else [None] * len(wanted)), **by_name)
    except TypeError as error:
        return f"must be callable with ({', '.join(wanted)}): {error}"
    return ""
