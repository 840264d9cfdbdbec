"""``ecr-bench verify``: every number of a published run computed again from its per-item records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from ecr_bench.results.ablation import build_result
from ecr_bench.results.ablation_schema import Layout
from ecr_bench.results.board import build_board, own_baselines
from ecr_bench.results.claim_schema import ClaimSet
from ecr_bench.results.claims_file import judge_claims
from ecr_bench.results.differences import first_difference
from ecr_bench.results.files import (
    ABLATION,
    BOARD,
    CELLS,
    CLAIMS,
    MEASURES,
    RECORDS,
    TIMINGS,
    DamagedError,
    check_files,
    read_manifest,
)
from ecr_bench.results.record_checks import first_fault
from ecr_bench.results.timings import fault_of
from ecr_bench.run import Run

GIVEN = (
    f"taken as given: notes, provenance, surface baselines, {CELLS}, {MEASURES} and {TIMINGS}; what is drawn from them "
    "by its hash alone"
)
"""What the records cannot tell."""


def verify(folder: Path) -> list[str]:
    """Lines that say what was checked. DamagedError names the first thing that is not what the records say."""
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    lines = [f"files: {len(manifest.files)} are as they were published"]
    if BOARD not in manifest.files:
        return [*lines, f"not recomputed: published without {BOARD}"]
    return [*lines, *verify_run(Run.load(folder), folder)]


def verify_run(run: Run, folder: Path) -> list[str]:
    """``verify`` of a run that is loaded from ``folder`` already, where its files were checked."""
    _raise(f"{folder / CELLS}: ", _fault_of_cells(run))
    _raise(f"{folder / MEASURES}: ", _fault_of_measures(run))
    _raise(f"{folder / TIMINGS}: ", fault_of(run.timings))
    if not (folder / RECORDS).is_file():
        return [f"not recomputed: {BOARD} and {CLAIMS}, published without {RECORDS}"]
    records = run.records()
    _raise(f"{folder / RECORDS}: ", first_fault(records, run.arms))
    _raise(f"{folder / RECORDS}: ", _fault_of_owners(run, records))
    lines = [f"{RECORDS}: {len(records):,} answers agree with themselves"]
    for name, stored, found in _recomputed(run, records):
        _raise(f"{folder / name}: ", first_difference(_plain(stored), _plain(found)))
        lines.append(f"{name}: every number follows from the records")
    return [*lines, GIVEN]


def _raise(where: str, fault: str | None) -> None:
    if fault:
        raise DamagedError(where + fault)


def _plain(model: BaseModel) -> Any:
    return model.model_dump(mode="json")


def _recomputed(run: Run, records: pd.DataFrame) -> Iterator[tuple[str, BaseModel, BaseModel]]:
    """File, what it says, what the records give."""
    board = run.board
    again = build_board(board.name, records, run.arms, run.cells, own_baselines(board), board.provenance, board.notes)
    yield BOARD, board, again
    if run.claims:
        claims = ClaimSet(claims=tuple(result.claim for result in run.claims.results))
        facts = replace(run, board=again).facts
        yield CLAIMS, run.claims, judge_claims(run.name, facts, claims, run.claims.source)
    if run.ablation:
        yield ABLATION, run.ablation, build_result(Layout.of(run.ablation), again, records, run.measures)


def _fault_of_cells(run: Run) -> str | None:
    seen = set()
    for cell in run.cells:
        if (cell.cell, cell.precision) in seen:
            return f"cell {cell.cell} in {cell.precision} is there twice"
        seen.add((cell.cell, cell.precision))
    return None


def _fault_of_measures(run: Run) -> str | None:
    owners = {cell.cell: (cell.arm, cell.seed) for cell in run.cells}
    for m in run.measures:
        if owners.get(m.cell) != (m.arm, m.seed):
            return f"{m.metric} of cell {m.cell}: {CELLS} has no such cell of {m.arm} with seed {m.seed}"
        # its mean may lie outside of them: a null that is nearly always 0 is skewed
        if m.null is not None and m.null[1] > m.null[2]:
            return f"{m.metric} of cell {m.cell}: the quantiles of its null are in the wrong order"
    return None


def _fault_of_owners(run: Run, records: pd.DataFrame) -> str | None:
    """Cells of the records are those of cells.json that did not diverge, all of them."""
    costs = {(cell.cell, str(cell.arm), cell.seed, cell.precision): cell.diverged for cell in run.cells}
    respondents = {tuple(one) for one in records[["cell", "arm", "seed", "precision"]].drop_duplicates().to_numpy()}
    for respondent in sorted(respondents - costs.keys()):
        return f"{_named(*respondent)} is not in {CELLS}"
    for respondent, diverged in costs.items():
        if diverged and respondent in respondents:
            return f"{_named(*respondent)} has answers, though it diverged ({CELLS})"
        if not diverged and respondent not in respondents:
            return f"{_named(*respondent)} has no answers, though it is in {CELLS} and did not diverge"
    return None


def _named(cell: str, arm: str, seed: int, precision: str) -> str:
    return f"cell {cell} of {arm}, seed {seed}, in {precision}"
