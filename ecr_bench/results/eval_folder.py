"""A folder that ``ecr-bench eval`` wrote, as one side of a comparison: one model at one precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError, unknown
from ecr_bench.evaluation.records import read_records
from ecr_bench.results.compare import Picked

RECORDS, SUMMARY = "records.parquet", "eval.json"


@dataclass(frozen=True)
class EvalFolder:
    """``pick`` and ``records`` as a ``Run`` has them."""

    folder: Path

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        return (folder / SUMMARY).is_file()

    @cached_property
    def arm(self) -> Arm:
        """Where its control tokens come from; ``plain`` without. UserError where nothing was scored."""
        found = read_records(self.folder / RECORDS)["arm"]
        if found.empty:
            raise UserError(f"{self.folder}: holds no records: every task of it failed")
        return Arm(str(found.iloc[0]), "")

    def records(self) -> pd.DataFrame:
        """Per-item records with the arm in its printed form."""
        return read_records(self.folder / RECORDS).assign(arm=str(self.arm))

    def pick(self, name: str, precision: str | None = None) -> Picked:
        """All of it; ``name`` and ``precision``, where given, must be its own (UserError)."""
        records = self.records()
        cell, own = (str(records[column].iloc[0]) for column in ("cell", "precision"))
        if name not in ("", cell):
            raise unknown(f"model in {self.folder}", name, [cell])
        if precision not in (None, own):
            raise unknown(f"precision in {self.folder}", str(precision), [own])
        return Picked(cell, self.arm, own, (0,))
