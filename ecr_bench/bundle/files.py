"""What a bundle is on disk: a transformers model folder with ``conditioner/``, ``README.md`` and ``bundle.json``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint, read_json, write_json
from ecr_bench.names import file_inside

META = "bundle.json"
FORMAT = 3
"""Version of ``bundle.json``. 2: without a seal."""


class Meta(BaseModel, frozen=True, extra="forbid", strict=True):
    """What a bundle is and how it was scored."""

    cell: str
    arm: str
    """Printed form."""
    seed: int
    precision: str
    stage: str
    """Stage that trained it."""
    run: str
    base_model: str | None
    """What it was fine-tuned from; None for a model from scratch."""
    seen_languages: list[str]
    batch_tokens: int = Field(ge=256)
    """Padded tokens of a batch in scoring."""
    ecr_bench: str
    """Version that wrote it."""
    commit: str | None
    packages: dict[str, str] | None


def write_meta(folder: Path, meta: Meta) -> None:
    """Write ``bundle.json`` with the SHA-256 of every other file; its presence says that the bundle is whole."""
    files = {name: _digest(folder / name) for name in _files(folder)}
    body: dict[str, Any] = {"format": FORMAT, **meta.model_dump(), "files": files}
    write_json(folder / META, {**body, "seal": fingerprint(body)})


def read_meta(folder: Path) -> Meta:
    """What ``write_meta`` wrote, after every file was compared with its hash.

    UserError for no bundle, another format, a file that is missing, changed, a link out of the folder, or was not
    exported with it. Hidden files are left alone: a hub keeps some beside.
    """
    path = folder / META
    if not path.is_file():
        raise UserError(f"{folder}: no bundle here ({META} is missing); make one: ecr-bench export CELL {folder}")
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or not isinstance(raw.get("files"), dict):
        raise UserError(f"{path}: not a bundle of format {FORMAT}; export it again")
    if raw.get("seal") != fingerprint({key: value for key, value in raw.items() if key != "seal"}):
        raise UserError(f"{folder}: damaged bundle, {META} was changed after the export; export it again")
    _check_files(folder, raw["files"])
    try:
        return Meta.model_validate({key: raw[key] for key in raw if key not in ("format", "files", "seal")})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; export it again") from None


def _check_files(folder: Path, listed: dict[str, Any]) -> None:
    there = _files(folder)
    for name, digest in listed.items():
        try:
            path = file_inside(folder, name)
        except ValueError as error:
            raise UserError(f"{folder / META}: {error}; export it again") from None
        if name not in there:
            raise UserError(f"{folder}: incomplete bundle, {name} is missing; export it again")
        if _digest(path) != digest:
            raise UserError(f"{folder}: damaged bundle, {name} was changed after the export; export it again")
    if added := [name for name in there if name not in listed]:
        raise UserError(f"{folder}: damaged bundle, {added[0]} was not exported with it; take it out or export again")


def _files(folder: Path) -> list[str]:
    """All files but ``bundle.json`` and hidden ones."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    visible = (path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    return sorted(name for name in visible if name != META)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
