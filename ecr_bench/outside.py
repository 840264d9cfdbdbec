"""What settings name that lies outside: files and folders count by what is in them, wherever they lie.

A section that holds such a name gives it with a serializer that asks ``as_identity`` whether it is written for an
identity: then it writes what the name stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SerializationInfo
from pydantic_core import PydanticSerializationError

from ecr_bench.content import content_of, folder_of
from ecr_bench.errors import UserError
from ecr_bench.hub import commit_of
from ecr_bench.reading import user_path

PACKAGED = "package:"
"""Prefix of models that come by pip, whose code names their hash (methods/packaged.py)."""
_CONTEXT = {"identity": True}


def identity_json(settings: BaseModel) -> dict[str, Any]:
    """``settings`` as plain JSON, with what lies outside by its content. UserError where something is not there."""
    try:
        return settings.model_dump(mode="json", context=_CONTEXT)
    except PydanticSerializationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def as_identity(info: SerializationInfo) -> bool:
    """Whether a section is being written by ``identity_json``."""
    return bool(info.context and info.context.get("identity"))


def data_counts(path: str) -> str:
    """What a file or folder of data stands for; empty for none."""
    return f"content {content_of(user_path(path))}" if path else ""


def is_packaged(model: str) -> bool:
    """Whether ``model`` names one that comes by pip."""
    return model.startswith(PACKAGED)


def model_counts(model: str, revision: str = "", who: str = "") -> str:
    """What a model stands for: the content of a folder, or a name on the hub at a commit.

    UserError that names ``who`` where there is neither.
    """
    if is_packaged(model):
        return model
    if folder := folder_of(model):
        return f"content {content_of(folder)}"
    return f"{model}@{commit_of(model, revision, who=who or f'model {model!r}')}"


def models_named(settings: Iterable[tuple[BaseModel, Mapping[str, Any]]]) -> dict[str, str]:
    """What each model that any of ``settings`` names stands for, by its name, and its revision if there is one; nothing
    of what stands for itself.

    ``settings`` come with their ``identity_json`` of when it counted: by now a folder may be gone.
    """
    found: dict[str, str] = {}
    for section, identity in settings:
        for said, counted in _with_model(section.model_dump(mode="json"), identity):
            if counted["model"] != said["model"]:
                found[as_named(said)] = counted["model"]
    return dict(sorted(found.items()))


def as_named(section: Mapping[str, Any]) -> str:
    """The key in ``models_named`` of a section that names a model."""
    return section["model"] + (f"@{section['revision']}" if section.get("revision") else "")


def _with_model(said: Any, counted: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Sections in ``said`` that name a model, each as it is ``counted``."""
    if isinstance(said, Mapping) and isinstance(counted, Mapping):
        if isinstance(said.get("model"), str) and isinstance(counted.get("model"), str):
            yield said, counted
        for key in said.keys() & counted.keys():
            yield from _with_model(said[key], counted[key])


def data_set_counts(path: str, revision: str = "", who: str = "") -> str:
    """The same for a data set; a file counts as well."""
    if not path or user_path(path).exists():
        return data_counts(path)
    return f"{path}@{commit_of(path, revision, 'dataset', who or f'data set {path!r}')}"
