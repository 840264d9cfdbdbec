"""A finished run as one object: what one experiment gave, read from its folder and written to it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ecr_bench.arm import Arm, with_bare_forms
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records, write_records
from ecr_bench.io import write_json
from ecr_bench.metrics.files import read_measures, write_measures
from ecr_bench.results import compare as comparing
from ecr_bench.results.ablation_schema import AblationResult
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.claim_schema import ClaimsReport
from ecr_bench.results.contrasts import meeting
from ecr_bench.results.evidence import Facts
from ecr_bench.results.files import (
    ABLATION,
    BOARD,
    CELLS,
    CLAIMS,
    DATA,
    MEASURES,
    RECORDS,
    RUN,
    TIMINGS,
    check_files,
    read_manifest,
    read_model,
    read_models,
    write_manifest,
)
from ecr_bench.results.schema import Board
from ecr_bench.results.timings import Timing
from ecr_bench.results.told import check_provenance, check_roles
from ecr_bench.types import Measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Run:
    """Records, cells, measures, timings, board, claims and provenance of one experiment.

    ``Run.load("runs/quick")`` reads one; ``run.compare("ecr-1x", "finetune-3x")`` asks it.
    """

    name: str
    arms: dict[str, Arm]
    """Printed form -> arm, for every arm that was run."""
    board: Board
    cells: Sequence[CellCosts] = ()
    measures: Sequence[Measure] = ()
    timings: Sequence[Timing] = ()
    """Times that were measured to be compared, where any were."""
    claims: ClaimsReport | None = None
    ablation: AblationResult | None = None
    folder: Path | None = None
    """Where it was read from."""
    made_from: str = ""
    """Fingerprint of experiment, stages, claims and code."""
    own_records: pd.DataFrame | None = field(default=None, repr=False)
    """Per-item records where they are in memory already; ``records`` reads them from ``folder`` otherwise."""

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a finished run and check each file against its SHA-256.

        UserError where there is none, one of another format, or provenance or roles that no version writes;
        DamagedError where a file was changed or is missing. Records are read when they are asked for.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        arms = manifest.known_arms

        def there(name: str) -> bool:
            return (folder / name).is_file()

        if not there(BOARD):
            raise UserError(f"{folder}: holds no {BOARD}, only {', '.join(manifest.files)}")
        board = read_model(folder / BOARD, Board, arms)
        check_provenance(board.provenance, folder)
        check_roles(arms.values(), folder)
        return cls(
            manifest.name,
            arms,
            board,
            read_models(folder / CELLS, CellCosts, arms) if there(CELLS) else [],
            read_measures(folder / MEASURES, arms) if there(MEASURES) else [],
            read_models(folder / TIMINGS, Timing, arms) if there(TIMINGS) else [],
            read_model(folder / CLAIMS, ClaimsReport, with_bare_forms(arms)) if there(CLAIMS) else None,
            read_model(folder / ABLATION, AblationResult, arms) if there(ABLATION) else None,
            folder,
            manifest.made_from,
        )

    def write(self, folder: str | Path) -> None:
        """Write all files, each atomically, then ``run.json`` with their hashes."""
        folder = Path(folder)
        self.write_data(folder)
        self.seal(folder)

    def write_data(self, folder: Path) -> None:
        """Write the files without ``run.json``: until ``seal`` the folder counts as no finished run."""
        (folder / RUN).unlink(missing_ok=True)
        at_home = self.folder is not None and folder.resolve() == self.folder.resolve()
        has_records = self.own_records is not None or bool(self.folder and (self.folder / RECORDS).is_file())
        if self.own_records is not None or (has_records and not at_home):
            write_records(folder / RECORDS, self.records())
        for name, part in (
            (RECORDS, has_records),
            (TIMINGS, self.timings),
            (CLAIMS, self.claims),
            (ABLATION, self.ablation),
        ):
            if not part:  # nothing of a run that was published here before
                (folder / name).unlink(missing_ok=True)
        write_json(folder / CELLS, [cell.model_dump(mode="json") for cell in self.cells])
        write_measures(folder / MEASURES, self.measures, named=True)
        if self.timings:
            write_json(folder / TIMINGS, [timing.model_dump(mode="json") for timing in self.timings])
        write_json(folder / BOARD, self.board.model_dump(mode="json"))
        for name, part in ((CLAIMS, self.claims), (ABLATION, self.ablation)):
            if part is not None:
                write_json(folder / name, part.model_dump(mode="json"))

    def seal(self, folder: Path, drawn: Iterable[str] = ()) -> None:
        """Write ``run.json``, last of all: arms, and SHA-256 of the data files and of what was ``drawn`` from them."""
        write_manifest(folder, self.name, self.arms.values(), (*DATA, *drawn), self.made_from)

    def records(self) -> pd.DataFrame:
        """One row per cell, precision and item, with the columns of ``evaluation.records.SCHEMA``.

        UserError where the run was published without them.
        """
        return self._records

    @cached_property
    def _records(self) -> pd.DataFrame:
        if self.own_records is not None:
            return self.own_records
        if self.folder is None or not (self.folder / RECORDS).is_file():
            raise UserError(f"{self.folder or self.name}: published without {RECORDS}; run it again to have them")
        return read_records(self.folder / RECORDS)

    @property
    def provenance(self) -> dict[str, Any]:
        """Experiment, code, packages and machine, as plain JSON."""
        return self.board.provenance

    @property
    def experiment(self) -> dict[str, Any]:
        """Every setting, as plain JSON; empty where the run does not know."""
        return self.provenance.get("experiment") or {}

    @property
    def facts(self) -> Facts:
        """What claims are judged by."""
        return Facts.of(
            self.records(), self.arms, self.cells, self.measures, self.experiment, self.timings, self.board.contrasts,
            {arm: list(self.experiments(arm).values()) for arm in self.arms},
        )  # fmt: skip

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """Name -> provenance of the runs behind this board, each with its ``experiment`` and the ``arms`` it has."""
        merged: dict[str, dict[str, Any]] | None = self.provenance.get("runs")
        return merged or {self.name: {**self.provenance, "arms": list(self.arms)}}

    def experiments(self, arm: str | None = None) -> dict[str, dict[str, Any]]:
        """Source -> its experiment, of all or of those that have an arm. Where an older version merged them they are
        not known one by one, and an arm may be in none of them: then by the name of the whole what they share."""
        whole = {self.name: self.experiment}
        if not all({"arms", "experiment"} <= told.keys() for told in self.sources.values()):
            return whole
        found = {name: told["experiment"] for name, told in self.sources.items() if arm is None or arm in told["arms"]}
        return found or whole  # never nothing: who compares settings would find no fault

    def arm(self, name: str) -> Arm:
        """The arm that prints as ``name``; UserError lists them."""
        return Arm.parse(name, self.arms.values())

    def pick(self, name: str, precision: str | None = None) -> comparing.Picked:
        """An arm or cell by name, at a precision: the highest one unless given."""
        where = str(self.folder or self.name)
        return comparing.pick(self.records(), self.arms, name, precision, where, self.board.diverged)

    def compare(self, a: str, b: str, precision_a: str | None = None, precision_b: str | None = None) -> pd.DataFrame:
        """Arm or cell ``a`` minus ``b``, paired by item, on every task in every group of languages.

        Columns: ``group, task, a, b`` (accuracies on the 0..1 scale), ``difference, low, high`` (95 % interval), ``p``
        and ``mcnemar_p`` (two-sided, not corrected for the number of tests), ``mdd`` (minimum detectable difference of
        this test alone), and where the two arms meet on the board its ``p_holm`` and ``verdict`` (else None).
        UserError for a name or precision that is not there.
        """
        left, right = self.pick(a, precision_a), self.pick(b, precision_b)
        lines = comparing.differences(self.records(), left, right)
        return pd.DataFrame(
            [{**line.to_dict(), **asdict(self.on_board(left, right, line.group, line.task))} for line in lines]
        )

    def on_board(self, a: comparing.Picked, b: comparing.Picked, group: str, task: str) -> comparing.OnBoard:
        """The board's p and word of two whole arms; the word only where it asks the same way round."""
        if (a.name, b.name) != (str(a.arm), str(b.arm)):
            return comparing.OnBoard()
        found = meeting(self.board.contrasts, (a.arm, a.precision), (b.arm, b.precision), group, task)
        if found is None:
            return comparing.OnBoard()
        forward = (found.a, found.precision) == (a.arm, a.precision)
        return comparing.OnBoard(found.p_holm, found.verdict if forward else None)

    def figure(self, name: str, columns: int = 3) -> Figure:
        """A figure of the page by name, as a matplotlib figure with at most ``columns`` panels side by side.

        UserError lists the names, or says that this run has nothing to draw.
        """
        drawing = importlib.import_module("ecr_bench.report.figures")  # loaded only by who draws
        figure: Figure = drawing.figure_of(self, name, columns)
        return figure
