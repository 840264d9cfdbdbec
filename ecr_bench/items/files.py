"""Items on disk: one JSONL file per lm-eval task and ``index.json`` with the number of items in each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, read_json, write_json
from ecr_bench.items.registry import task_name
from ecr_bench.names import file_inside
from ecr_bench.reading import json_lines
from ecr_bench.types import Item

INDEX = "index.json"
REMEDY = "build items with `ecr-bench run` and give their folder as metadata items"
_FIELDS = frozenset(field.name for field in fields(Item))


def write_items(folder: Path | str, items: Sequence[Item]) -> None:
    """Write ``items`` into ``folder``, atomically, replacing what was there."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(task_name(item), []).append(item)
    with atomic_dir(Path(folder)) as temporary:
        for name, group in groups.items():
            lines = [json.dumps(asdict(item), ensure_ascii=False) for item in group]
            (temporary / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_json(temporary / INDEX, {name: len(group) for name, group in groups.items()})


def read_index(folder: Path | str) -> dict[str, int]:
    """Task name to number of items; UserError names the remedy when ``folder`` holds no items."""
    path = Path(folder) / INDEX
    if not path.is_file():
        raise UserError(f"no items in {folder}: {REMEDY}")
    index = read_json(path)
    if not isinstance(index, dict) or any(Path(f"{name}.jsonl").name != f"{name}.jsonl" for name in index):
        raise UserError(f"{path}: not an index of items; {REMEDY}")
    return index


def read_items(folder: Path | str) -> list[Item]:
    """Read what ``write_items`` wrote, task by task in the order of the index."""
    return [item for name in read_index(folder) for item in read_task(folder, name)]


def read_task(folder: Path | str, name: str) -> list[Item]:
    """The items of one lm-eval task; UserError names the tasks there are, or the malformed line."""
    index = read_index(folder)
    if name not in index:
        raise UserError(f"no items for task {name!r} in {folder}: it has {', '.join(index) or 'none'}")
    try:
        path = file_inside(Path(folder), f"{name}.jsonl")
    except ValueError as error:
        raise UserError(f"{Path(folder) / INDEX}: {error}; {REMEDY}") from None
    return [_item(raw, where) for where, raw in json_lines(path)]


def _item(raw: Any, where: str) -> Item:
    if not isinstance(raw, dict) or raw.keys() != _FIELDS or not isinstance(raw["choices"], list):
        raise UserError(f"{where}: not an item; it must have the keys {', '.join(sorted(_FIELDS))}")
    item = Item(**{**raw, "choices": tuple(raw["choices"])})
    if type(item.gold) is not int or not 0 <= item.gold < len(item.choices):
        raise UserError(f"{where}: gold {item.gold!r} must be 0 to {len(item.choices) - 1}")
    return item
