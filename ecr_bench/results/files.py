"""The files of a published run, and ``run.json``: format version, table of arms and SHA-256 of each file.

``run.json`` is written last, so its presence says that the folder is whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ecr_bench.arm import Arm, by_name
from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint, read_json, sha256, write_json
from ecr_bench.names import file_inside, run_name
from ecr_bench.reading import read_text

FORMAT = 3
"""Version of the files of a run. 1: before arms were values, without run.json; 2: seen and unseen languages as
``split``, now ``group``."""
RUN, BOARD, CELLS, CLAIMS, RECORDS = "run.json", "board.json", "cells.json", "claims.json", "records.parquet"
MEASURES, TIMINGS, ABLATION = "measures.json", "timings.json", "ablation.json"
DATA = (RECORDS, CELLS, MEASURES, TIMINGS, BOARD, CLAIMS, ABLATION)
"""What a run is read from."""
_OBEYED = re.compile(
    r"(?<!\\)(?:\\\\)*\\(?:u00(?:0[0-8bce-f]|1[0-9a-f]|7f|[89][0-9a-f])|[bf])|[\x7f-\x9f\u202a-\u202e\u2066-\u2069]",
    re.I,
)
"""As JSON escapes them, or as they are."""
Model = TypeVar("Model", bound=BaseModel)


class DamagedError(UserError):
    """A published file is not what was written."""

    exit_code = 3


def read_model(path: Path, kind: type[Model], arms: Mapping[str, Arm]) -> Model:
    """Read a JSON file of a run. UserError names the file and the first wrong field."""
    return _validated(path, TypeAdapter(kind), arms)


def read_models(path: Path, kind: type[Model], arms: Mapping[str, Arm]) -> list[Model]:
    """The same for a list."""
    return _validated(path, TypeAdapter(list[kind]), arms)  # type: ignore[valid-type]


def read_shown(path: Path) -> Any:
    """A JSON file whose texts are shown; UserError for a character that a terminal would obey."""
    if found := _OBEYED.search(read_text(path)):
        raise UserError(f"{path}: holds the control character {found[0]!r:.20}; this version writes none")
    return read_json(path)


def _validated(path: Path, adapter: TypeAdapter[Any], arms: Mapping[str, Arm]) -> Any:
    try:
        return adapter.validate_python(read_shown(path), context={"arms": arms})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}: not what this version wrote; run it again") from None


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """``run.json``."""

    format: int
    name: str
    arms: list[dict[str, Any]]
    """``Arm.to_json`` of every arm."""
    made_from: str
    """Fingerprint of experiment, stages, claims and code; empty where unknown."""
    files: dict[str, str]
    """File -> SHA-256 of its bytes."""
    seal: str
    """Fingerprint of all of the above."""

    @property
    def published(self) -> list[str]:
        """Names of all files of the run, ``run.json`` first."""
        return [RUN, *self.files]

    @property
    def known_arms(self) -> dict[str, Arm]:
        """Printed form -> arm."""
        return by_name(Arm.from_json(raw) for raw in self.arms)


def write_manifest(folder: Path, name: str, arms: Iterable[Arm], files: Iterable[str], made_from: str = "") -> None:
    """Hash ``files`` of ``folder`` and write ``run.json``; a file that is not there is not listed."""
    body: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "arms": [arm.to_json() for arm in arms],
        "made_from": made_from,
        "files": {file: sha256(folder / file) for file in sorted(files) if (folder / file).is_file()},
    }
    write_json(folder / RUN, {**body, "seal": fingerprint(body)})


def format_of(folder: Path) -> int:
    """Version of the run in ``folder``. UserError where there is none, or ``run.json`` tells no version."""
    if (folder / RUN).is_file():
        raw = read_json(folder / RUN)
        found = raw.get("format") if isinstance(raw, dict) else None
        if not isinstance(found, int):
            raise UserError(f"{folder / RUN}: format {found!r}, this version reads {FORMAT}")
        return found
    if os.path.lexists(folder / RUN):
        raise UserError(f"{folder / RUN}: is no file")
    if any((folder / name).is_file() for name in (BOARD, ABLATION)):
        return 1
    first = f"; first: ecr-bench run {folder.name} --out {folder.parent}" if folder.name else ""
    raise UserError(f"no run in {folder}{first}")


def read_manifest(folder: Path, version: int = FORMAT) -> Manifest:
    """``run.json`` of a finished run. UserError where there is no run or one of another format than ``version``,
    DamagedError where it was changed. It names no file outside of the folder."""
    if (found := format_of(folder)) != version:
        remedy = f": run it again, or python -m ecr_bench.results.migrate {folder}" if found < version else ""
        why = f" (it has no {RUN}, or is not whole)" if found == 1 else ""
        raise UserError(f"{folder}: format {found}{why}, this version reads {version}{remedy}")
    raw = read_shown(folder / RUN)
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DamagedError(f"{folder / RUN}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if fingerprint({key: value for key, value in raw.items() if key != "seal"}) != manifest.seal:
        raise DamagedError(f"{folder / RUN}: was changed after it was written")
    _check_plain(folder, manifest)
    return manifest


def _check_plain(folder: Path, manifest: Manifest) -> None:
    """UserError where the name is no run's, arms are none, or a file is, or leads, outside of the folder."""
    try:
        run_name(manifest.name)
        by_name(Arm.from_json(raw) for raw in manifest.arms)
        for name in manifest.files:
            file_inside(folder, name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder / RUN}: {reason:.160}: not what this version wrote; run it again") from None


def check_files(folder: Path, manifest: Manifest) -> None:
    """DamagedError naming the first file that is missing, not what was published, or put beside it afterwards."""
    if added := [name for name in DATA if name not in manifest.files and (folder / name).is_file()]:
        raise DamagedError(f"{folder / added[0]}: was not published with this run: {RUN} does not list it")
    for name, expected in manifest.files.items():
        if not (folder / name).is_file():
            raise DamagedError(f"{folder / name}: missing, though {RUN} lists it")
        if sha256(folder / name) != expected:
            raise DamagedError(f"{folder / name}: was changed after it was published")
