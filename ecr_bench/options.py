"""Options that live with their owner: a method, modifier, teacher, corpus or projection declares what it takes.

An owner has an attribute ``Options``, a ``Section`` with a docstring per field; without one it takes none. What a YAML
or ``--set`` gives is read against it before anything runs.
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from ecr_bench.bounds import reason
from ecr_bench.errors import UserError
from ecr_bench.registry import Registry
from ecr_bench.section import Section

OptionsT = TypeVar("OptionsT", bound=Section)


class NoOptions(Section):
    """For owners that take none."""


def read_options(kind: type[OptionsT], raw: Mapping[str, Any], key: str, owner: str) -> OptionsT:
    """The options of ``owner`` (``teacher 'hf'``), given under the dotted ``key``.

    Raises:
        UserError: an unknown, missing or wrong option; the line lists what the owner takes.
    """
    try:
        return kind.model_validate(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join([key, *(str(part) for part in first["loc"])])
        allowed = ", ".join(kind.model_fields) or "none"
        if first["type"] == "extra_forbidden":
            raise UserError(f"{at}: {owner} has no such option: allowed are {allowed}") from None
        if first["type"] == "missing":
            raise UserError(f"{at} must be given for {owner} (its options: {allowed})") from None
        raise UserError(f"{at}: {reason(first, kind)} (got {first['input']!r:.80})") from None


def options_of(owner: Any) -> Any:
    """The ``Section`` that ``owner`` takes: a class's ``Options``, the type of a function's parameter ``options``."""
    if isinstance(owner, type) or not hasattr(owner, "__annotations__"):
        return getattr(owner, "Options", NoOptions)
    return typing.get_type_hints(owner).get("options", NoOptions)


@functools.cache
def defaults_of(kind: type[BaseModel]) -> Mapping[str, Any]:
    """The fields that may be left out, at what they are then, as plain JSON under the names a YAML has for them."""
    fields = {field.alias or name: field for name, field in kind.model_fields.items() if not field.is_required()}
    return {
        name: to_jsonable_python(field.get_default(call_default_factory=True), serialize_unknown=True, by_alias=True)
        for name, field in fields.items()
    }


def listing(registry: Registry) -> Iterator[tuple[str, str]]:
    """What a list of ``registry`` shows: each name with its line of help, and below it each of its options."""
    for name in registry:
        owner = registry.get(name)
        yield name, registry.help.get(name) or (owner.__doc__ or "").strip().partition("\n")[0]
        for option in described(options_of(owner)):
            yield f"  {option.name}", f"{option.kind}, {option.default}: {option.text}"


@dataclass(frozen=True)
class Option:
    """One option as a list shows it."""

    name: str
    kind: str
    """``int > 0``, ``dense | int8 | nf4``, ``text or null``."""
    default: str
    """``default 0.3``, as YAML would have it, or ``required``."""
    text: str
    """Its docstring on one line."""


def described(kind: type[Section]) -> Iterator[Option]:
    """The options of an owner, in the order in which they are declared."""
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"default {_shown(field.get_default())}"
        yield Option(name, _kind(field), default, " ".join((field.description or "").replace("``", "").split()))


_WORDS = {str: "text", type(None): "null", bool: "true | false", Any: "anything"}
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {_bound(getattr(item, name))}"
        for item in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return " ".join([_type(field.annotation), *bounds])


def _bound(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _type(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"map of {_type(inner[0])} to {_type(inner[1])}"
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_type, inner))
    return _WORDS.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _shown(value: Any) -> str:
    if isinstance(value, Section):
        value = value.model_dump(mode="json", exclude_defaults=True)
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
