"""Experiments as files: where they are, how one extends another, and ``key=value`` from the command line."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError, unknown
from ecr_bench.reading import decode, read_bytes
from ecr_bench.strict_yaml import parse_yaml

CHOOSERS = {"corpus": "name", "teacher": "name", "projection": "kind"}
"""Section -> the key by which it names who its ``options`` are for: another one starts from its own defaults."""
LARGEST_FILE = 2**20
"""Bytes of a YAML file."""
CLAIMS = "claims.yaml"
"""Beside the experiments in ``baselines/``, and none of them."""


def experiments() -> list[str]:
    """Names of the shipped experiments and ablations."""
    return sorted(path.stem for path in shipped("baselines").glob("*.yaml") if path.name != CLAIMS)


def shipped(kind: str) -> Path:
    """The folder ``tasks`` or ``baselines``: inside the installed wheel, else in the repository."""
    inside = Path(str(resources.files("ecr_bench"))) / f"_{kind}"
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / kind


def read_yaml(path: Path) -> Any:
    """The value of a YAML file of ours or of a user's; UserError names the file, the line and what is allowed."""
    raw = read_bytes(path)
    if len(raw) > LARGEST_FILE:
        raise UserError(f"{path}: {len(raw):,} bytes, which no experiment needs: allowed are {LARGEST_FILE:,}")
    return parse_yaml(decode(raw, str(path)), str(path))


def read(name_or_file: str, children: tuple[Path, ...] = ()) -> Any:
    """The raw YAML, put on top of the file it ``extends``: mappings are merged, other values replaced.

    Options of a corpus, teacher or projection are not merged into those of another one.
    """
    path = locate(name_or_file)
    if path.resolve() in children:
        raise UserError(f"{path}: extends itself")
    raw = read_yaml(path)
    if isinstance(raw, dict) and "extends" in raw:
        parent = raw.pop("extends")
        if not isinstance(parent, str) or not parent:
            raise UserError(f"{path}: extends: name a shipped experiment or a file (got {parent!r:.60})")
        beside = path.parent / parent
        named = str(beside) if beside.is_file() else parent
        base = read(named, (*children, path.resolve()))
        if isinstance(base, dict):
            for section, key in CHOOSERS.items():
                if isinstance(top := raw.get(section), dict) and key in top:
                    drop_options(base, section, top[key])
        return _merge(base, raw)
    return raw


def drop_options(raw: dict[str, Any], section: str, chosen: Any) -> None:
    """Forget the options in ``raw[section]`` where ``chosen`` is another owner than the one they are for."""
    before = raw.get(section)
    if isinstance(before, dict) and before.get(CHOOSERS[section]) != chosen:
        before.pop("options", None)


def _merge(base: Any, top: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return top
    return base | {key: _merge(base.get(key), value) for key, value in top.items()}


def locate(name_or_file: str) -> Path:
    """The file of a shipped name, or the path itself; UserError lists the shipped names."""
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"}:
        return path
    if name_or_file not in experiments():
        raise unknown("experiment", name_or_file, experiments())
    return shipped("baselines") / f"{name_or_file}.yaml"


def parse_set(pairs: list[str], within: str = "") -> dict[str, Any]:
    """Turn ``key=value`` strings into a mapping, values read as YAML; a key may be set once.

    ``within``: the setting whose keys these are. They may be written as in an experiment, with its name in front.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"--set {pair!r}: write key=value, for example finetune.steps=100")
        if within:
            key = key.removeprefix(f"{within}.")
        if key in result:
            raise UserError(f"--set {key}: is there twice")
        result[key] = parse_yaml(value, f"--set {key}")
    return result
