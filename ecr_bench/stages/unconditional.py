"""Stage ``unconditional``: how likely a cell finds the options of the test items without their text, and what it would
choose by what the text adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecr_bench.items.registry import TASKS
from ecr_bench.section import Section
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS


class UnconditionalSettings(Section):
    batch_tokens: int


@dataclass(frozen=True)
class UnconditionalInputs:
    train: Path
    items: Path
    score: Path


class Unconditional(Section):
    options: int
    """Texts that were scored, each once; 0 for a cell that gives no likelihood of texts."""
    diverged: str = ""


class UnconditionalStage(Work[UnconditionalSettings, UnconditionalInputs, Unconditional]):
    """Accuracy by pointwise mutual information, as ``measures.json``."""

    kind = "unconditional"
    Settings, Inputs, Result = UnconditionalSettings, UnconditionalInputs, Unconditional

    @staticmethod
    def run(
        settings: UnconditionalSettings, inputs: UnconditionalInputs, folder: Path, report: Report
    ) -> Unconditional:
        from ecr_bench.device import device
        from ecr_bench.evaluation.likelihood import without_text
        from ecr_bench.evaluation.lm import EcrLM
        from ecr_bench.evaluation.records import read_records
        from ecr_bench.evaluation.scorers import open_scorer
        from ecr_bench.items.files import read_items
        from ecr_bench.metrics.files import FILE, write_measures
        from ecr_bench.metrics.mutual_information import measures_of

        records = read_records(inputs.score / "records.parquet")
        precision = str(records["precision"].iloc[0])  # the first is the highest
        lm = open_scorer(inputs.train / "model", precision, device(), settings.batch_tokens).lm
        if type(lm) is not EcrLM:
            write_measures(folder / FILE, [])
            return Unconditional(options=0)
        items = read_items(inputs.items / "test")
        alone = without_text(lm, sorted({choice for item in items for choice in item.choices}))
        write_measures(folder / FILE, measures_of(records[records["precision"] == precision], items, alone, precision))
        return Unconditional(options=len(alone))

    @classmethod
    def of_diverged(cls, inputs: UnconditionalInputs, folder: Path, reason: str) -> Unconditional:
        from ecr_bench.metrics.files import FILE, write_measures

        write_measures(folder / FILE, [])
        return Unconditional(options=0, diverged=reason)

    @classmethod
    def chosen(cls, settings: UnconditionalSettings) -> Iterable[Chosen]:
        return [(TEACHERS, ()), (TASKS, ())]  # whom an arm asks counts through the stage that trained it
