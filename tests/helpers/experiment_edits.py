"""Experiments that nobody would write: a sound one with some of its keys given sensible, odd and impossible values."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel

from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import options_of
from ecr_bench.sizes import SIZES
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.yaml_files import CHOOSERS, shipped

BASE = yaml.safe_load((shipped("baselines") / "tiny.yaml").read_text(encoding="utf-8"))
LANGUAGES = ["en", "de", "ru", "ja", "no", "zh-Hans", "../x", "English", "", "e n", "EN"]
WORDS = ["1x", "3x", "intent", "slot", "label", "meaning", "copa", "ecr", "finetune", "random", "oracle", "distill"]
WORDS += ["ecr+dropout", "nonsense", "intents", "files", "usem3", "checkpoint", "store", "../up", "a/b", "con", "nan"]
WORDS += ["dropout", "lora", "refresh", "n" * 300, "größe", "fp32", "bf16", "to-en"]
PLACES = [
    "/dev",
    "/dev/zero",
    "/dev/null",
    "/proc/self/mem",
    "nothing.jsonl",
    "~nobodyhere/x",
    "a\nb",
    "x" * 300,
    "a\\b",
]
PLACES += [
    "package:nothing",
    "owner/name",
    "-",
    "tests/helpers",
    "README.md",
    "https://example.org/x",
    "hf_" + "a" * 30,
]
"""For keys that name files, folders and models."""
WHOLE = [0, 1, 2, 3, 4, 8, 16, 64, 192, 1000, 4096, -1, -7, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 10**40]
REAL = [0.0, 0.1, 0.5, 0.9, 1.0, 1.5, 100.0, -0.5, 1e-30, 1e300, float("inf"), float("-inf"), float("nan")]
NUMBERS: list[Any] = [*WHOLE, *REAL, True, False]

odd = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(WORDS), st.sampled_from(LANGUAGES), st.just([]), st.just({}), st.just([[]]), st.just({"a": 1}),
)  # fmt: skip
"""Values of any kind, for any key."""


def _bare(annotation: Any) -> Any:
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def likely(annotation: Any, bounds: Iterable[Any] = ()) -> st.SearchStrategy[Any]:
    """Values of the right type and within bounds, as far as a field says them."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        more = [bound for part in more for bound in getattr(part, "metadata", [part])]
        return likely(inner, [*bounds, *more])
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(inside)
    if origin in (Union, UnionType):
        return st.one_of([st.none() if part is NoneType else likely(part, bounds) for part in inside])
    if origin is tuple:
        return st.lists(likely(inside[0]), min_size=1, max_size=3, unique_by=repr)
    if origin is dict:
        return st.dictionaries(st.sampled_from(sorted(DOTTED)), odd, max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return section(annotation)
    if annotation is bool:
        return st.booleans()
    if annotation in (int, float):
        numbers = WHOLE if annotation is int else [*REAL, *(float(number) for number in WHOLE[:10])]
        return st.sampled_from([number for number in numbers if _within(number, bounds)])
    return st.one_of(st.sampled_from(WORDS), st.sampled_from(LANGUAGES), st.sampled_from(PLACES))


def _within(number: float, bounds: Iterable[Any]) -> bool:
    compare = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
    return abs(number) < 2**63 and all(
        compare[name](number, getattr(bound, name)) for bound in bounds for name in compare if hasattr(bound, name)
    )


@st.composite
def section(draw: st.DrawFn, model: type[BaseModel]) -> dict[str, Any]:
    """Some keys of ``model``."""
    names = draw(st.lists(st.sampled_from(sorted(model.model_fields)), max_size=3, unique=True))
    return {
        name: draw(likely(model.model_fields[name].annotation, model.model_fields[name].metadata)) for name in names
    }


def _paths(model: type[BaseModel], above: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """(path, annotation) of every key of ``model`` and of the sections in it."""
    found: list[tuple[tuple[Any, ...], Any]] = []
    for name, field in model.model_fields.items():
        name = field.alias or name
        found.append(((*above, name), Annotated[field.annotation, *field.metadata, None]))
        kind = _bare(field.annotation)
        inner = _bare(get_args(kind)[0]) if get_origin(kind) is tuple else kind
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _paths(inner, (*above, name) if inner is kind else (*above, name, 0))
    return found


PATHS = _paths(Experiment)
PATHS += [(("sizes", "1x", *path), kind) for size in SIZES.values() for path, kind in _paths(size)]
for registry in (METHODS, MODIFIERS):
    for owner in registry:
        of_owner = _paths(registry.get(owner).Options)
        PATHS += [(("options", owner, *path), kind) for path, kind in of_owner]
        PATHS += [(("cells", 0, "with", 0, owner, *path), kind) for path, kind in of_owner if registry is MODIFIERS]
CHOICES: dict[tuple[Any, ...], tuple[str, str, str]] = {}
"""Path of an option of a corpus, teacher or projection -> section, key and name that choose its owner."""
for (section_name, chooser), owners in zip(CHOOSERS.items(), (CORPORA, TEACHERS, PROJECTIONS), strict=True):
    for owner in owners:
        for path, kind in _paths(options_of(owners.get(owner))):
            full = (section_name, "options", *path)
            CHOICES[*full, owner] = (section_name, chooser, owner)
            PATHS.append(((*full, owner), kind))
DOTTED = {
    ".".join(path): kind for path, kind in PATHS if all(isinstance(part, str) for part in path) and path not in CHOICES
}


@st.composite
def experiments(draw: st.DrawFn) -> dict[str, Any]:
    """``tiny`` with one to four edits: a key given a value, a key taken away, an unknown key."""
    raw = yaml.safe_load(yaml.safe_dump(BASE))
    for _ in range(draw(st.sampled_from([1, 1, 2, 2, 3, 4]))):
        path, annotation = draw(st.sampled_from(PATHS))
        if draw(st.integers(0, 9)) == 0:
            path = ("cells", 0, "set", ".".join(path)) if ".".join(map(str, path)) in DOTTED else path
        value = draw(odd if draw(st.integers(0, 4)) == 0 else likely(annotation))
        if path in CHOICES:
            where, key, owner = CHOICES[path]
            _edit(raw, (where, key), owner, "put")
            path = path[:-1]
        _edit(raw, path, value, draw(st.sampled_from(["put"] * 8 + ["drop", "unknown"])))
    return raw


@st.composite
def overrides(draw: st.DrawFn) -> tuple[str, Any]:
    """A dotted key and a value for it."""
    key = draw(st.sampled_from(sorted(DOTTED)))
    return key, draw(odd if draw(st.booleans()) else likely(DOTTED[key]))


def _edit(raw: dict[str, Any], path: tuple[Any, ...], value: Any, how: str) -> None:
    node: Any = raw
    for step, following in itertools.pairwise(path):
        if isinstance(node, dict):
            node = node.setdefault(step, [] if isinstance(following, int) else {})
        elif isinstance(node, list) and isinstance(step, int) and step <= len(node):
            if step == len(node):
                node.append({})
            node = node[step]
        else:
            return
    last = path[-1]
    if isinstance(node, dict):
        if how == "drop":
            node.pop(last, None)
        else:
            node[f"{last}z" if how == "unknown" else last] = value
