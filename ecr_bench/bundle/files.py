"""What a bundle is on disk: a transformers model folder with ``conditioner/``, ``README.md`` and ``bundle.json``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.io import read_json, write_json

META = "bundle.json"
FORMAT = 2


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write ``bundle.json`` with the SHA-256 of every other file; its presence says that the bundle is whole."""
    files = {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    write_json(folder / META, {"format": FORMAT, **meta, "files": files})


def read_meta(folder: Path) -> dict[str, Any]:
    """What ``write_meta`` wrote; UserError for no bundle, another format, a missing or a changed file."""
    if not (folder / META).is_file():
        raise UserError(f"{folder}: no bundle here ({META} is missing); make one: ecr-bench export CELL {folder}")
    meta = read_json(folder / META)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("files"), dict):
        raise UserError(f"{folder / META}: not a bundle of format {FORMAT}; export it again")
    for name, digest in meta["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{folder}: incomplete bundle, {name} is missing; export it again")
        if _digest(path) != digest:
            raise UserError(f"{folder}: damaged bundle, {name} was changed after the export; export it again")
    return meta


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
