"""Published runs of earlier formats in today's: ``python -m ecr_bench.results.migrate DIR...``

Numbers stay as they were computed. Of format 1 (before arms were values), words (of contrasts, verdict and claims) are
made anew from these numbers. Of format 2, seen and unseen languages are called ``group`` instead of ``split``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecr_bench.arm import Arm, by_name
from ecr_bench.config import CellSpec
from ecr_bench.io import fingerprint, read_json, write_json
from ecr_bench.methods.former import modern_spec
from ecr_bench.methods.recipe import Recipe
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.files import (
    ABLATION,
    BOARD,
    CELLS,
    CLAIMS,
    FORMAT,
    MEASURES,
    check_files,
    format_of,
    read_manifest,
    read_model,
    read_models,
    write_manifest,
)
from ecr_bench.results.rejudge import Json, floors_from, rejudged, rejudged_claims, untie_the_lonely
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Board, BoardRow, Contrast
from ecr_bench.results.timings import TIMES
from ecr_bench.results.verdict import build_verdict

Known = Mapping[tuple[str, str], Arm]
"""(method with its settings in brackets, size) as format 1 has them -> arm."""


def migrate(folder: Path) -> list[str]:
    """Rewrite the JSON files of a run, then ``run.json``; returns the files, none where it is in today's format.

    UserError for a folder that holds no run or one of a later format, DamagedError where a file was changed.
    """
    found = format_of(folder)
    if found == 1:
        _rename(folder)
        return _from_names(folder)
    if found != 2:
        read_manifest(folder)
        return []
    manifest = read_manifest(folder, version=2)
    check_files(folder, manifest)
    _rename(folder)
    write_manifest(folder, manifest.name, manifest.known_arms.values(), manifest.files, manifest.made_from)
    return sorted(manifest.files)


def _rename(folder: Path) -> None:
    """``split`` -> ``group``, wherever it said seen or unseen."""
    for name, renamed in ((BOARD, _board_by_group), (CLAIMS, _claims_by_group), (ABLATION, _ablation_by_group)):
        _rewrite(folder / name, renamed)


def _by_group(row: Json) -> Json:
    return {"group" if key == "split" else key: value for key, value in row.items()}


def _board_by_group(board: Json) -> Json:
    return board | {part: [_by_group(row) for row in board[part]] for part in ("rows", "by_language", "contrasts")}


def _ablation_by_group(result: Json) -> Json:
    return result | {part: [_by_group(row) for row in result[part]] for part in ("points", "references")}


def _claims_by_group(report: Json) -> Json:
    """The hash of what the claims say is made anew where it is of the claims that stand here."""
    own = report["fingerprint"] == _hash_of_claims(report)
    for result in report["results"]:
        result["claim"] = _by_group(result["claim"])
        for evidence in result["evidence"]:
            evidence["row"] = _by_group(evidence["row"])
    return report | {"fingerprint": _hash_of_claims(report)} if own else report


def _hash_of_claims(report: Json) -> str:
    return fingerprint({"claims": [result["claim"] for result in report["results"]]})


def _from_names(folder: Path) -> list[str]:
    """From format 1, which knew an arm by its names."""
    first = read_json(next(folder / name for name in (BOARD, ABLATION) if (folder / name).is_file()))
    known = arms_of(first["provenance"]["experiment"])
    _rewrite(folder / CELLS, lambda cells: _cells(cells, known))
    _rewrite(folder / MEASURES, lambda measures: _with_arm(measures, known))
    _rewrite(folder / ABLATION, lambda result: _ablation(result, known))
    if (folder / BOARD).is_file():
        arms = by_name(known.values())
        cells = read_models(folder / CELLS, CellCosts, arms) if (folder / CELLS).is_file() else []
        _rewrite(folder / BOARD, lambda board: _board(board, known, cells))
        contrasts = read_model(folder / BOARD, Board, arms).contrasts
        _rewrite(folder / CLAIMS, lambda report: _claims(report, known, contrasts))
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    write_manifest(folder, first["name"], dict.fromkeys(known.values()), files)
    return files


def _rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    if path.is_file():
        write_json(path, change(read_json(path)))


def arms_of(experiment: Json) -> Known:
    """All names that format 1 may have given to the arms of an experiment: settings in full and in short."""
    result = {}
    for spec in experiment["cells"]:
        settings = spec.get("set") or {}
        modern = CellSpec.model_validate(modern_spec(spec))
        recipe = Recipe.of_spec(modern, {})
        for size in spec["sizes"]:
            arm = recipe.arm(size, recipe.settings(modern, {}, {}))
            for short in (False, True):
                result[_named(spec["method"], settings, short), size] = arm
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


NOTE = (
    "Brought over from format 1: intervals and minimum detectable differences are those of that version (seed variance "
    "pooled over all arms); the words follow today's rules."
)


def _board(board: Json, known: Known, cells: Sequence[CellCosts]) -> Json:
    arms = by_name(known.values())
    board["rows"] = _with_arm(board["rows"], known)
    untie_the_lonely(board["rows"])
    board["by_language"] = _with_arm(board["by_language"], known)
    rows = [BoardRow.model_validate(row, context={"arms": arms}) for row in board["rows"]]
    contrasts = rejudged(board["contrasts"], rows, arms)
    verdict = build_verdict(contrasts, Cast.of(arms.values(), cells))
    return board | {
        "floors": floors_from(rows),
        "contrasts": [contrast.model_dump(mode="json") for contrast in contrasts],
        "verdict": verdict.model_dump(mode="json"),
        "notes": [*board["notes"], NOTE],
    }


def _cells(cells: list[Json], known: Known) -> list[Json]:
    kept = CellCosts.model_fields
    rows = ({key: value for key, value in cell.items() if key in (*kept, "method", "size")} for cell in cells)
    arms = by_name(known.values())
    whole = (CellCosts.model_validate(row, context={"arms": arms}) for row in _with_arm(rows, known))
    return [row.model_dump(mode="json") for row in whole]


def _claims(report: Json, known: Known, contrasts: Sequence[Contrast]) -> Json:
    labels = _by_label(known)
    for result in report["results"]:
        claim = result["claim"]
        result["a"], result["b"] = labels.get(claim["a"]), labels.get(claim["b"])
        for side in ("a", "b"):
            claim[side] = {"name": labels.get(claim[side], claim[side])}
        for control in result["controls"]:
            control["arm"] = f"{control['method']}-{_size_of(result['a'], known)}"
        for row in (entry["row"] for entry in result["evidence"]):
            if "method" in row:
                row["arm"] = _of(row, known)
    return rejudged_claims(report, contrasts, TIMES)


def _size_of(label: str, known: Known) -> str:
    return next(arm.size for arm in known.values() if str(arm) == label)


def _ablation(result: Json, known: Known) -> Json:
    labels = _by_label(known)
    for row in (*result["points"], *result["references"], *result["equal_sizes"]):
        row["arm"] = labels[row["arm"]]
    for row in result["differences"]:
        row["reference"] = labels[row["reference"]]
    result["by_size"] = bool(result["equal_sizes"])
    spots = {
        (p["series"], p["label"]): {key: p[key] for key in ("series", "label", "at", "arm")} for p in result["points"]
    }
    result["places"] = list(spots.values())
    return result


def main(folders: list[str]) -> None:
    for folder in folders:
        print(f"{folder}: {', '.join(migrate(Path(folder))) or f'has format {FORMAT} already'}")


if __name__ == "__main__":
    main(sys.argv[1:])
