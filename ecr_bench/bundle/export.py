"""A trained cell as a folder that runs alone: no teacher, no network, no store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ecr_bench import __version__
from ecr_bench.bundle.card import model_card
from ecr_bench.bundle.files import META, Meta, write_meta
from ecr_bench.bundle.licence import write_licence
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.device import device
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, check_folder
from ecr_bench.names import run_folder
from ecr_bench.precision import PRECISIONS
from ecr_bench.precision.adapted import has_adapter
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.schema import Board
from ecr_bench.run import Run
from ecr_bench.runner.store import Store


def export(out: Path, run: str, cell: str, folder: Path, precision: str | None = None) -> Meta:
    """Write cell ``cell`` of ``run``, a name in ``out`` or a path, to ``folder``, which appears whole or not at all.

    ``precision``: one of those the cell was scored at; default: the first of them. Returns what ``bundle.json`` says.

    UserError: no such run, cell or precision; a cell that diverged, or cannot run alone (it asks the teacher, has no
    language model, or keeps adapters beside a quantised base); a folder with other things in it.
    """
    place = run_folder(run, out)
    finished = Run.load(place)
    row = _row(finished.cells, cell, precision, place)
    store = Store(out)
    source = store.path(row.stage) / "model"
    _check_deployable(row, source)
    check_folder(folder.parent, "export to")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / META).is_file():
        raise UserError(f"{folder}: exists and is no bundle; choose a new folder")
    store.check(row.stage)
    meta = _meta(finished.board, row)
    with atomic_dir(folder) as temporary:
        _write_model(source, temporary, row.precision)
        write_licence(meta.base_model, temporary)
        card = model_card(finished, meta, row, _items(store, row, folder))
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_meta(temporary, meta)
    return meta


def _items(store: Store, row: CellCosts, folder: Path) -> str:
    """The test items that the cell was scored on, seen from ``folder``."""
    made = store.record(row.stage)["spec"]["inputs"]
    return os.path.relpath(store.path(made["items"]) / "test", folder)


def _row(rows: Sequence[CellCosts], cell: str, precision: str | None, run: Path) -> CellCosts:
    mine = [row for row in rows if row.cell == cell]
    if not mine:
        raise UserError(f"no cell {cell!r} in {run}: allowed are {', '.join(dict.fromkeys(r.cell for r in rows))}")
    chosen = [row for row in mine if precision in (None, row.precision)]
    if not chosen:
        raise UserError(
            f"cell {cell} was not scored at {precision!r}: allowed are {', '.join(r.precision for r in mine)}"
        )
    return chosen[0]


def _check_deployable(row: CellCosts, source: Path) -> None:
    cell = row.cell
    if row.diverged:
        raise UserError(f"cell {cell} diverged in {row.precision} ({row.diverged}); export one that has scores")
    if not row.deployable:
        raise UserError(f"cell {cell} asks its teacher at test time and cannot run alone; export an ecr cell")
    if (source / "probe.json").is_file():
        raise UserError(f"cell {cell} is a probe without a language model; export an ecr or finetune cell")
    if (source / "fusion").is_dir():
        raise UserError(f"cell {cell} is scored together with a probe, which no bundle holds: export one without")
    if has_adapter(source):
        raise UserError(
            f"cell {cell} keeps adapters beside a quantised base, which AutoModelForCausalLM would leave out; "
            "export a +lora cell (adapters merged) at this precision instead"
        )
    if not (source / "config.json").is_file():
        raise UserError(f"cell {cell}: its model is not in {source} any more; run the experiment again")


def _meta(board: Board, row: CellCosts) -> Meta:
    experiment = board.provenance["experiment"]
    size = experiment["sizes"].get(row.arm.size, {})
    return Meta(
        cell=row.cell,
        arm=str(row.arm),
        seed=row.seed,
        precision=row.precision,
        stage=row.stage,
        run=board.name,
        base_model=size.get("model"),
        seen_languages=list(experiment["seen_languages"]),
        batch_tokens=experiment["scoring"]["batch_tokens"],
        ecr_bench=__version__,
        commit=board.provenance.get("commit"),
        packages=board.provenance.get("packages"),
    )


def _write_model(source: Path, folder: Path, precision: str) -> None:
    """Model as it is scored at ``precision``, tokenizer and conditioner."""
    if precision == "fp32":
        for path in (*source.glob("*.json"), *source.glob("*.safetensors")):
            shutil.copyfile(path, folder / path.name)
    else:
        PRECISIONS.get(precision)(source, device()).save_pretrained(folder)
    load_tokenizer(source).save_pretrained(folder)
    shutil.copytree(source / "conditioner", folder / "conditioner")
