"""Where finished stages live: ``<out>/store/<kind>/<key>/``, complete when ``done.json`` is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_bench.io import atomic_dir, read_json, write_json

DONE = "done.json"


def stage_result(folder: Path) -> dict[str, Any]:
    """What the stage that filled ``folder`` reported; nothing for a folder that no stage has filled."""
    path = folder / DONE
    return read_json(path)["result"] if path.is_file() else {}


@dataclass(frozen=True)
class Store:
    """Content-addressed results under ``root``; a key is the hash of what can change the result."""

    root: Path

    def path(self, stage_id: str) -> Path:
        """Folder of stage ``kind/key``, whether it exists or not."""
        return self.root / "store" / stage_id

    def done(self, stage_id: str) -> bool:
        return (self.path(stage_id) / DONE).is_file()

    def result(self, stage_id: str) -> dict[str, Any]:
        """What the stage reported when it finished."""
        return stage_result(self.path(stage_id))

    def write(self, stage_id: str, spec: dict[str, Any], build: Any) -> None:
        """Run ``build(folder) -> result`` in a temporary folder that takes its place only when whole."""
        with atomic_dir(self.path(stage_id)) as folder:
            result = build(folder)
            write_json(folder / DONE, {"spec": spec, "result": result})
