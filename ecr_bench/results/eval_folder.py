"""A folder that ``ecr-bench eval`` wrote, as one side of a comparison: one model at one precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError, unknown
from ecr_bench.evaluation.records import read_records, write_records
from ecr_bench.io import fingerprint, read_json, sha256, write_json
from ecr_bench.results.compare import Picked
from ecr_bench.results.files import DamagedError

RECORDS, SUMMARY = "records.parquet", "eval.json"
HASH, SEAL = "records_sha256", "seal"


def write_evaluation(folder: Path, records: pd.DataFrame, told: dict[str, Any]) -> None:
    """Write records, then ``eval.json``: what is ``told`` of them, their SHA-256, and a fingerprint of both."""
    write_records(folder / RECORDS, records)
    body = {**told, HASH: sha256(folder / RECORDS)}
    write_json(folder / SUMMARY, {**body, SEAL: fingerprint(body)})


def check_evaluation(folder: Path) -> None:
    """DamagedError where one of its files is not what was written; UserError where that cannot be told."""
    told = read_json(folder / SUMMARY)
    if not isinstance(told, dict) or HASH not in told:
        raise UserError(f"{folder / SUMMARY}: no hash of {RECORDS} in it: written by an older version; score anew")
    if told.get(SEAL) != fingerprint({key: value for key, value in told.items() if key != SEAL}):
        raise DamagedError(f"{folder / SUMMARY}: was changed after it was written")
    if not (folder / RECORDS).is_file():
        raise DamagedError(f"{folder / RECORDS}: missing, though {SUMMARY} names it")
    if sha256(folder / RECORDS) != told[HASH]:
        raise DamagedError(f"{folder / RECORDS}: was changed after it was written")


@dataclass(frozen=True)
class EvalFolder:
    """``pick`` and ``records`` as a ``Run`` has them. DamagedError where its files are not what was written."""

    folder: Path

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        return (folder / SUMMARY).is_file()

    @cached_property
    def arm(self) -> Arm:
        """Where its control tokens come from; ``plain`` without. UserError where nothing was scored."""
        if self._read.empty:
            raise UserError(f"{self.folder}: holds no records: every task of it failed")
        return Arm(str(self._read["arm"].iloc[0]), "")

    @cached_property
    def _read(self) -> pd.DataFrame:
        check_evaluation(self.folder)
        return read_records(self.folder / RECORDS)

    def records(self) -> pd.DataFrame:
        """Per-item records with the arm in its printed form."""
        return self._read.assign(arm=str(self.arm))

    def pick(self, name: str, precision: str | None = None) -> Picked:
        """All of it; ``name`` and ``precision``, where given, must be its own (UserError)."""
        records = self.records()
        cell, own = (str(records[column].iloc[0]) for column in ("cell", "precision"))
        if name not in ("", cell):
            raise unknown(f"model in {self.folder}", name, [cell])
        if precision not in (None, own):
            raise unknown(f"precision in {self.folder}", str(precision), [own])
        return Picked(cell, self.arm, own, (0,))
