"""Stage ``score``: a trained cell on all test items, at each precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_bench.items.registry import TASKS
from ecr_bench.items.task_files import task_files
from ecr_bench.precision import PRECISIONS
from ecr_bench.section import Section
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.yaml_files import shipped


class ScoreSettings(Section):
    tasks: tuple[str, ...]
    precisions: tuple[str, ...]
    batch_tokens: int
    seen: tuple[str, ...]
    """Languages with labelled training rows: a column of the records."""


@dataclass(frozen=True)
class ScoreInputs:
    train: Path
    items: Path


class Cost(Section):
    """What scoring at one precision took."""

    bytes: int
    """Weights of the model in memory."""
    disk_bytes: int
    """All files of the model folder, with weights of that size."""
    scoring_memory: int
    """Peak, in bytes."""
    ms_per_item: float | None
    """None where nothing could be scored."""
    diverged: str = ""
    """Why there are no records at this precision."""


class Scored(Section):
    items: int
    cut: dict[str, int]
    """Task -> items whose context was cut on its left to fit the window; tasks without any are left out."""
    precisions: dict[str, Cost]


class ScoreStage(Work[ScoreSettings, ScoreInputs, Scored]):
    """Score through lm-eval; ``records.parquet`` holds one row per item and precision.

    A precision at which log-likelihoods are not finite has no records.
    """

    kind = "score"
    Settings, Inputs, Result = ScoreSettings, ScoreInputs, Scored

    @staticmethod
    def run(settings: ScoreSettings, inputs: ScoreInputs, folder: Path, report: Report) -> Scored:
        import time
        from collections import Counter

        import pandas as pd

        from ecr_bench.device import device
        from ecr_bench.divergence import DivergedError
        from ecr_bench.evaluation.records import SCHEMA, write_records
        from ecr_bench.evaluation.run import evaluate, load_item_tasks
        from ecr_bench.evaluation.scorers import disk_bytes, open_scorer
        from ecr_bench.memory import peak_memory, reset_peak_memory

        model = inputs.train / "model"
        names = sorted(path.stem for path in (inputs.items / "test").glob("ecr_*.jsonl"))
        manager, tasks = load_item_tasks(inputs.items / "test", names)
        # names of cell and arm belong to an experiment, not to the stage: `collect` fills them in
        metadata = {"cell": "", "arm": "", "seed": 0, "seen_languages": settings.seen}
        records: list[dict[str, Any]] = []
        costs: dict[str, Cost] = {}
        cut: Counter[str] = Counter()
        for index, precision in enumerate(settings.precisions):
            report(index, len(settings.precisions))
            reset_peak_memory()
            scorer = open_scorer(model, precision, device(), settings.batch_tokens)
            started, diverged = time.perf_counter(), ""
            try:
                scored = evaluate(scorer.lm, tasks, metadata={**metadata, "precision": precision}, task_manager=manager)
            except DivergedError as error:
                scored, diverged = [], str(error)
            seconds = time.perf_counter() - started
            records += scored
            cut = Counter(name for name, _ in scorer.lm.last_cut)  # the same at every precision
            costs[precision] = Cost(
                bytes=scorer.bytes,
                disk_bytes=disk_bytes(model, scorer.bytes),
                scoring_memory=peak_memory(),
                ms_per_item=round(1000 * seconds / len(scored), 6) if scored else None,
                diverged=diverged,
            )
        write_records(folder / "records.parquet", pd.DataFrame(records, columns=SCHEMA.names))
        return Scored(items=sum(len(task.eval_docs) for task in tasks), cut=cut, precisions=costs)

    @classmethod
    def chosen(cls, settings: ScoreSettings) -> Iterable[Chosen]:
        # whom an arm asks counts through the stage that trained it
        return [(PRECISIONS, settings.precisions), (TEACHERS, ()), (TASKS, ())]

    @classmethod
    def data(cls, settings: ScoreSettings) -> Iterable[Path]:
        return {path for task in settings.tasks for path in task_files(task, shipped("tasks"))}
