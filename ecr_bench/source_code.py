"""What a piece of work runs: the source files it can reach by imports, and the packages these import.

Found by reading the files, so that nothing is listed by hand and nothing is imported. Imports inside functions count,
those for type checkers alone do not. A module that is named by a text counts as well, and where that text is put
together (``f"ecr_bench.metrics.{module}:{cls}"``) every module of the package.

A registry (``registry.Registry``) names modules as ``"module:attribute"``: who is told which names were chosen follows
these, else all. The lines that fill a registry so are no part of the code of its file: another method in the list
changes nothing for those that are there. The ``__init__`` of this package names its public interface and is no part of
what it names.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT.name
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")
"""``module:attribute``"""
_INSIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*\.")
"""How a text begins that names a module inside a package and is put together when it is needed."""
_ALL = "*"
_LAZY = {"import_module", "files"}
"""Calls that name a module as text: ``importlib.import_module``, ``importlib.resources.files``."""


@dataclass(frozen=True)
class Code:
    """What some modules reach."""

    files: Mapping[str, str]
    """Module -> hash of its source."""
    packages: Mapping[str, str | None]
    """Distribution -> version without its local part (``+cpu``); None for a package that is not installed."""


@dataclass(frozen=True)
class _Module:
    """One file, read."""

    digest: str
    names: tuple[str, ...]
    """What it imports, as dotted names; a name of a ``from`` import may be a module or an object."""
    registries: Mapping[str, tuple[str, ...]]
    """Kind of registry -> modules that its entries name."""


def code_of(modules: Iterable[str], chosen: Iterable[str] = ()) -> Code:
    """The code that ``modules`` reach.

    ``chosen``: kinds of registries whose entries are not followed, because those that matter are among ``modules``.
    """
    files, packages = _reach(frozenset(modules), frozenset(chosen))
    return Code({name: _read(name).digest for name in files}, {name: installed_version(name) for name in packages})


def forget() -> None:
    """Read files anew from here on, and look at installed versions again."""
    for cached in (_read, _reach, _location, installed_version):
        cached.cache_clear()


@functools.cache
def installed_version(distribution: str) -> str | None:
    """Version of an installed package without its local part, or None."""
    try:
        return re.sub(r"\+.*", "", version(distribution))
    except PackageNotFoundError:
        return None


@functools.cache
def _reach(modules: frozenset[str], chosen: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modules of ours that are reached, and distributions."""
    ours = {PACKAGE, *(name.partition(".")[0] for name in modules)}
    waiting, found, packages = list(modules), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in found or name == PACKAGE:
            continue
        found.add(name)
        module = _read(name)
        following = list(module.names)
        for kind, entries in module.registries.items():
            following += () if kind in chosen else entries
        for candidate in following:
            top = candidate.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            if candidate.endswith(f".{_ALL}"):
                waiting += _inside(candidate[: -len(_ALL) - 1]) if top in ours else ()
            elif top in ours or (not (known := _distributions().get(top)) and _location(top)):
                waiting += _with_parents(candidate)
            else:
                packages.update(known or [top])
    return tuple(sorted(found)), tuple(sorted(packages))


def _inside(package: str) -> Iterator[str]:
    """The modules of a package."""
    if (path := _location(package)) and path.name == "__init__.py":
        for file in sorted(path.parent.glob("*.py")):
            yield from _with_parents(f"{package}.{file.stem}" if file != path else package)


def _with_parents(name: str) -> Iterator[str]:
    """The modules that importing ``name`` runs, without this package's own ``__init__``; an object's name gives those
    of the module it is in."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if module != PACKAGE and _location(module):
            yield module


@functools.cache
def _location(name: str) -> Path | None:
    """Source file of a module that is no part of an installed distribution we only count by version."""
    top, _, rest = name.partition(".")
    if top == PACKAGE:
        path = ROOT.joinpath(*rest.split(".")) if rest else ROOT
        return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, AttributeError, ValueError):
            return None
        loaded = spec.origin if spec else None
    return Path(loaded) if loaded and loaded.endswith(".py") else None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return {name: sorted(set(found)) for name, found in packages_distributions().items()}


@functools.cache
def _read(name: str) -> _Module:
    path = _location(name)
    if path is None:
        return _Module("missing", (), {})
    return _parse(path.read_bytes(), name, path.name == "__init__.py")


@functools.lru_cache(maxsize=4096)
def _parse(source: bytes, name: str, is_package: bool) -> _Module:
    tree = ast.parse(source)
    kinds: dict[str, str] = {}
    entries: dict[str, list[str]] = {}
    lines, rest = source.splitlines(keepends=True), []
    for node in tree.body:
        filled = _filled(node, kinds)
        if filled is None:
            rest.append(node)
            continue
        kind, modules = filled
        entries.setdefault(kind, []).extend(modules)
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = b""
    package = name if is_package else name.rpartition(".")[0]
    names = tuple(dict.fromkeys(found for node in rest for found in _named(node, package)))
    digest = hashlib.sha256(b"".join(lines)).hexdigest()[:16]
    return _Module(digest, names, {kind: tuple(modules) for kind, modules in entries.items()})


def _filled(node: ast.stmt, kinds: dict[str, str]) -> tuple[str, list[str]] | None:
    """(kind, modules named) of a statement that makes a registry or adds to one; ``kinds``: variable -> kind so far.

    None for any other statement, and for one whose entries are not all ``"module:attribute"``.
    """
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
        call = node.value
        if not (isinstance(call.func, ast.Name) and call.func.id == "Registry" and call.args):
            return None
        kinds[node.targets[0].id] = kind = str(getattr(call.args[0], "value", ""))
        given = call.args[1:2] + [word.value for word in call.keywords if word.arg == "entries"]
        values = [value for table in given for value in (table.values if isinstance(table, ast.Dict) else [table])]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        call, owner = node.value, node.value.func.value
        if not (isinstance(owner, ast.Name) and owner.id in kinds and node.value.func.attr == "add"):
            return None
        kind, values = kinds[owner.id], call.args[1:2]
    else:
        return None
    modules = [_module_in(value) for value in values]
    return None if None in modules else (kind, [module for module in modules if module])


def _module_in(node: ast.expr) -> str | None:
    """``module`` of the text ``"module:attribute"``."""
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    return text.partition(":")[0] if _REFERENCE.fullmatch(text) else None


def _named(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that a statement imports when it runs, or gives to what imports by name."""
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        base = tree.module or ""
        if tree.level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - tree.level + 1], *([base] if base else [])])
        yield from (f"{base}.{alias.name}" for alias in tree.names)
    elif isinstance(tree, ast.JoinedStr):
        begins = str(getattr(tree.values[0], "value", "")) if tree.values else ""
        if _INSIDE.fullmatch(begins):
            yield begins + _ALL
    elif isinstance(tree, ast.Constant):
        if module := _module_in(tree):
            yield module
    elif isinstance(tree, ast.Call) and _called(tree) in _LAZY:
        yield from (word.value for word in tree.args[:1] if isinstance(word, ast.Constant) and type(word.value) is str)
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in (getattr(tree.test, "id", ""), getattr(tree.test, "attr", "")):
        children: Iterable[ast.AST] = tree.orelse
    else:
        children = ast.iter_child_nodes(tree)
    for child in children:
        yield from _named(child, package)


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "id", "") or getattr(call.func, "attr", ""))
