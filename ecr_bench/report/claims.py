"""Claims judged on a finished run: read the evidence in its folder, write ``claims.json``, and the same as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ecr_bench.config import one_line
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records
from ecr_bench.io import fingerprint, read_json, write_json
from ecr_bench.metrics.files import finished_measures
from ecr_bench.report.arms import SPLITS, label_cells
from ecr_bench.report.schema import Board
from ecr_bench.report.tables import DASH, Table, short_p
from ecr_bench.statistics.claim_schema import ClaimResult, ClaimSet, ClaimsReport
from ecr_bench.statistics.claims import evaluate
from ecr_bench.statistics.evidence import Run
from ecr_bench.statistics.panel import build_panel
from ecr_bench.statistics.words import amount, arms, with_unit
from ecr_bench.types import Measure
from ecr_bench.yaml_files import CLAIMS, read_yaml, shipped

FILE = "claims.json"


def shipped_claims() -> Path:
    return shipped("baselines") / CLAIMS


def load_claims(path: Path) -> ClaimSet:
    """Read a claims file. UserError names the file, the claim, the key and what is allowed."""
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a claims file is a mapping with a list 'claims'; see {shipped_claims()}")
    try:
        return ClaimSet.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {_which(error, raw)}{one_line(error, ClaimSet)}") from None


def claims_identity(claims: ClaimSet) -> str:
    """Hash of what the claims say."""
    return fingerprint(claims.model_dump(mode="json"))


def _which(error: ValidationError, raw: dict[str, Any]) -> str:
    """``claim beats-3x: `` where the complaint is about one claim that has an id."""
    match error.errors(include_url=False)[0]["loc"]:
        case ("claims", int(index), *_):
            entry = raw["claims"][index]
            return f"claim {entry['id']}: " if isinstance(entry, dict) and "id" in entry else ""
    return ""


def judge(
    name: str,
    records: pd.DataFrame,
    cells: list[dict[str, Any]],
    measures: list[Measure],
    experiment: dict[str, Any],
    source: Path,
) -> ClaimsReport:
    """Evaluate the claims of ``source`` on one run; see ``build_board`` for ``records`` and ``cells``."""
    claims = load_claims(source)
    records, named = label_cells(records, cells)
    groups = {split: records[records["group"] == split] for split in SPLITS}
    panels = {split: build_panel(part) for split, part in groups.items() if len(part)}
    results = evaluate(claims, Run(name, panels, named, measures, experiment), str(source))
    return ClaimsReport(
        run=name,
        source=source.name,
        fingerprint=claims_identity(claims),
        tested=sum(result.finding is not None for result in results),
        results=results,
    )


def judge_folder(folder: Path, board: Board, source: Path) -> ClaimsReport:
    """The same from the files of a finished run; UserError where it has no per-item records."""
    cells = read_json(folder / "cells.json") if (folder / "cells.json").is_file() else []
    experiment = board.provenance.get("experiment") or {}
    return judge(
        board.name, read_records(folder / "records.parquet"), cells, finished_measures(folder), experiment, source
    )


def write_claims(folder: Path, report: ClaimsReport) -> None:
    """Write ``claims.json`` into ``folder``, atomically."""
    write_json(folder / FILE, report.model_dump(mode="json"))


def read_claims(folder: Path) -> ClaimsReport | None:
    """``claims.json`` of a run, or None where no claim was judged."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return ClaimsReport.model_validate(read_json(path))
    except ValidationError:
        again = f"ecr-bench claims {folder.name} --out {folder.parent}"
        raise UserError(f"{path}: not what this version wrote; again: {again}") from None


def numbers(result: ClaimResult) -> tuple[str, str, str]:
    """Difference with its interval, corrected p, minimum detectable difference; dashes where not tested."""
    claim, found = result.claim, result.finding
    if found is None or result.p_holm is None:
        return DASH, DASH, DASH
    if found.covers == "nothing":
        return f"{with_unit(claim, found.difference)} (exact)", DASH, DASH
    ends = f"{amount(claim, found.low)} to {amount(claim, found.high)}"
    mdd = with_unit(claim, found.mdd).removeprefix("+")
    return f"{with_unit(claim, found.difference)} ({ends})", short_p(result.p_holm), mdd


def claims_table(report: ClaimsReport) -> Table:
    """One line per claim."""
    lines = tuple((r.claim.id, r.verdict, f"{arms(r.claim)}, {r.claim.metric}", *numbers(r)) for r in report.results)
    caption = (
        f"p: after Holm's correction over the {report.tested} tested claims of {report.source}; "
        "MDD: minimum detectable difference (80 % power)"
    )
    columns = ("claim", "verdict", "a - b", "difference (95 %)", "p (Holm)", "MDD")
    return Table("Claims", columns, (lines,), caption)
