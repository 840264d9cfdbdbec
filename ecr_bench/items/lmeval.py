"""How lm-eval gets at the items: the ``custom_dataset`` that the YAML files in ``tasks/`` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from lm_eval.tasks._yaml_loader import load_yaml

from ecr_bench.errors import UserError, unknown
from ecr_bench.items.files import REMEDY, read_task
from ecr_bench.items.registry import TASKS, document
from ecr_bench.items.task_files import base_file

_TEXT = ("item_id", "task", "grain", "cluster", "lang", "target_lang", "text", "question", "prompt", "topic")
SCHEMA = pa.schema([*((name, pa.string()) for name in _TEXT), ("choices", pa.list_(pa.string())), ("gold", pa.int64())])


def load(task: str = "", items: str | Path | None = None, **_: Any) -> dict[str, Dataset]:
    """``{"test": docs}`` of one task; a doc has the fields of ``types.Item`` and ``prompt``.

    ``items`` is the folder ``files.write_items`` wrote; lm-eval passes it on from its ``metadata``.
    Raises UserError when it is missing.
    """
    if not items:
        raise UserError(f'task {task!r}: no folder of items: {REMEDY}, for example --metadata \'{{"items": "DIR"}}\'')
    docs = [document(item) for item in read_task(items, task)]
    return {"test": Dataset(pa.Table.from_pylist(docs, schema=SCHEMA))}


def task_specs(names: Sequence[str], folder: Path) -> list[str | dict[str, Any]]:
    """What ``lm_eval.tasks.TaskManager.load`` takes for ``names``, also where ``folder`` has no YAML for one.

    The YAML files in ``folder`` cover the languages of the ``intents`` corpus; a corpus of the user's own may
    have others, whose configuration is made here from the task's base file.
    """
    shipped = {path.stem for path in folder.rglob("ecr_*.yaml")}
    return [name if name in shipped else _inline(name, folder) for name in names]


def _inline(name: str, folder: Path) -> dict[str, Any]:
    _, _, rest = name.partition("ecr_")
    task = rest.partition("_")[0]
    if task not in TASKS:
        raise unknown("task", name, [f"ecr_{task}_LANG" for task in TASKS])
    return {
        **load_yaml(base_file(task, folder)),
        "task": name,
        "dataset_kwargs": {"task": name},
    }
