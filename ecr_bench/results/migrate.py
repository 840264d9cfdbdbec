"""Published runs of format 1 (before arms were values) in today's format: ``python -m ecr_bench.results.migrate DIR...``

Numbers stay as they were computed. The verdict in words is made anew from the differences on the board; claims keep
theirs. Where per-item records were published they stay beside the rest; where not, ``ecr-bench verify`` says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ecr_bench.arm import Arm, by_name
from ecr_bench.config import CellGroup
from ecr_bench.errors import UserError
from ecr_bench.io import read_json, write_json
from ecr_bench.methods.former import modern_group
from ecr_bench.methods.recipe import Recipe
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.files import ABLATION, BOARD, CELLS, CLAIMS, MEASURES, RUN, write_manifest

Json = dict[str, Any]
Known = Mapping[tuple[str, str], Arm]
"""(method with its settings in brackets, size) as format 1 has them -> arm."""


def migrate(folder: Path) -> list[str]:
    """Rewrite the JSON files of a run, then ``run.json``; returns the files. UserError for a folder that holds none, or
    one of today's format."""
    if (folder / RUN).is_file():
        raise UserError(f"{folder}: has a {RUN} already")
    present = [name for name in (BOARD, ABLATION) if (folder / name).is_file()]
    if not present:
        raise UserError(f"{folder}: no run here (neither {BOARD} nor {ABLATION})")
    first = read_json(folder / present[0])
    known = arms_of(first["provenance"]["experiment"])
    steps: dict[str, Callable[[Any, Known], Any]] = {BOARD: _board, CELLS: _cells, MEASURES: _measures, CLAIMS: _claims, ABLATION: _ablation}
    for name, step in steps.items():
        if (path := folder / name).is_file():
            write_json(path, step(read_json(path), known))
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    write_manifest(folder, first["name"], dict.fromkeys(known.values()), files)
    return files


def arms_of(experiment: Json) -> Known:
    """All names that format 1 may have given to the arms of an experiment: settings in full and in short."""
    result = {}
    for group in experiment["cells"]:
        settings = group.get("set") or {}
        modern = CellGroup.model_validate(modern_group(group))
        recipe = Recipe.of_group(modern, {})
        for size in group["sizes"]:
            arm = recipe.arm(size, recipe.settings(modern, {}))
            for short in (False, True):
                result[_named(group["method"], settings, short), size] = arm
    return result


def _named(method: str, settings: Json, short: bool) -> str:
    def key(dotted: str) -> str:
        return dotted.split(".")[-1] if short and not dotted.startswith("pretrain.") else dotted

    inside = ",".join(f"{key(name)}={value}" for name, value in sorted(settings.items()))
    return f"{method}[{inside}]" if inside else method


def _of(row: Json, known: Known) -> str:
    """The arm of a row, which loses ``method`` and ``size``."""
    return str(known[row.pop("method"), row.pop("size")])


def _by_label(known: Known) -> dict[str, str]:
    """``METHOD-SIZE`` as format 1 wrote it -> printed form."""
    return {f"{method}-{size}": str(arm) for (method, size), arm in known.items()}


def _with_arm(rows: Iterable[Json], known: Known) -> list[Json]:
    return [{"arm": _of(row, known), **row} for row in rows]


def _board(board: Json, known: Known) -> Json:
    board["rows"] = _with_arm(board["rows"], known)
    board["by_language"] = _with_arm(board["by_language"], known)
    return board


def _cells(cells: list[Json], known: Known) -> list[Json]:
    kept = CellCosts.model_fields
    rows = ({key: value for key, value in cell.items() if key in (*kept, "method", "size")} for cell in cells)
    arms = by_name(known.values())
    whole = (CellCosts.model_validate(row, context={"arms": arms}) for row in _with_arm(rows, known))
    return [row.model_dump(mode="json") for row in whole]


def _measures(measures: list[Json], known: Known) -> list[Json]:
    return _with_arm(measures, known)


def _claims(report: Json, known: Known) -> Json:
    labels = _by_label(known)
    for result in report["results"]:
        claim = result["claim"]
        result["a"], result["b"] = labels.get(claim["a"]), labels.get(claim["b"])
        for side in ("a", "b"):
            claim[side] = {"name": labels.get(claim[side], claim[side])}
        for control in result["controls"]:
            control["arm"] = f"{control.pop('method')}-{_size_of(result['a'], known)}"
        for row in (entry["row"] for entry in result["evidence"]):
            if "method" in row:
                row["arm"] = _of(row, known)
    return report


def _size_of(label: str, known: Known) -> str:
    return next(arm.size for arm in known.values() if str(arm) == label)


def _ablation(result: Json, known: Known) -> Json:
    labels = _by_label(known)
    for row in (*result["points"], *result["references"], *result["equal_sizes"]):
        row["arm"] = labels[row["arm"]]
    for row in result["differences"]:
        row["reference"] = labels[row["reference"]]
    result["by_size"] = bool(result["equal_sizes"])
    return result


def main(folders: list[str]) -> None:
    for folder in folders:
        print(f"{folder}: {', '.join(migrate(Path(folder)))}")


if __name__ == "__main__":
    main(sys.argv[1:])
