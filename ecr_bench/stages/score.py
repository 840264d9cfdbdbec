"""Stage ``score``: a trained cell on all test items, at each precision."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.items.registry import TASKS
from ecr_bench.items.task_files import task_files
from ecr_bench.precision import PRECISIONS
from ecr_bench.section import Section
from ecr_bench.stages.parts import part
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.yaml_files import shipped

if TYPE_CHECKING:
    import pandas as pd


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


class PartScored(Section):
    """What scoring one task, in all languages, took at one precision."""

    bytes: int
    disk_bytes: int
    memory: int
    """Peak in bytes since the model was loaded for this precision."""
    seconds: float
    cut: dict[str, int]
    diverged: str = ""


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
        return ScoreStage.resume(settings, inputs, folder, report)

    @classmethod
    def resume(
        cls, settings: ScoreSettings, inputs: ScoreInputs, folder: Path, report: Report, kept: Path | None = None
    ) -> Scored:
        import pandas as pd

        from ecr_bench.evaluation.records import SCHEMA, write_records
        from ecr_bench.evaluation.run import by_kind, load_item_tasks

        names = sorted(path.stem for path in (inputs.items / "test").glob("ecr_*.jsonl"))
        manager, tasks = load_item_tasks(inputs.items / "test", names)
        groups = by_kind(tasks)
        total = len(settings.precisions) * len(groups)
        frames, costs, done = [pd.DataFrame(columns=SCHEMA.names)], dict[str, Cost](), 0
        cut: dict[str, int] = {}
        for precision in settings.precisions:
            scorer = _Scorer(settings, inputs.train / "model", precision, manager)
            found: list[tuple[pd.DataFrame, PartScored]] = []
            for name, group in groups.items():
                report(done, total)
                found.append(part(kept, f"{precision}-{name}", PartScored, partial(scorer.score, group)))
                done += 1
            notes = [note for _, note in found]
            costs[precision] = _cost(notes, sum(len(frame) for frame, _ in found))
            if not costs[precision].diverged:
                frames += [frame for frame, _ in found]
            cut = {name: count for note in notes for name, count in note.cut.items()}  # the same at every precision
        records = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
        write_records(folder / "records.parquet", records)
        return Scored(items=sum(len(task.eval_docs) for task in tasks), cut=cut, precisions=costs)

    @classmethod
    def chosen(cls, settings: ScoreSettings) -> Iterable[Chosen]:
        # whom an arm asks counts through the stage that trained it
        return [(PRECISIONS, settings.precisions), (TEACHERS, ()), (TASKS, ())]

    @classmethod
    def data(cls, settings: ScoreSettings) -> Iterable[Path]:
        return {path for task in settings.tasks for path in task_files(task, shipped("tasks"))}


class _Scorer:
    """A model at a precision, loaded when it is first asked."""

    def __init__(self, settings: ScoreSettings, model: Path, precision: str, manager: Any):
        self.settings, self.model, self.precision, self.manager = settings, model, precision, manager

    @cached_property
    def opened(self) -> Any:
        from ecr_bench.device import device
        from ecr_bench.evaluation.scorers import open_scorer
        from ecr_bench.memory import reset_peak_memory

        # once a precision, not once a task: to look through all objects of a process takes half a second
        reset_peak_memory()
        return open_scorer(self.model, self.precision, device(), self.settings.batch_tokens)

    def score(self, tasks: list[Any]) -> tuple[pd.DataFrame, PartScored]:
        """Records of ``tasks``, none where the model diverged."""
        import pandas as pd

        from ecr_bench.divergence import DivergedError
        from ecr_bench.evaluation.records import SCHEMA
        from ecr_bench.evaluation.run import evaluate
        from ecr_bench.evaluation.scorers import disk_bytes
        from ecr_bench.memory import peak_memory

        # names of cell and arm belong to an experiment, not to the stage: `collect` fills them in
        names = {"cell": "", "arm": "", "seed": 0, "precision": self.precision}
        metadata = {**names, "seen_languages": self.settings.seen}
        scorer = self.opened
        started, diverged = time.perf_counter(), ""
        try:
            records = evaluate(scorer.lm, tasks, metadata=metadata, task_manager=self.manager)
        except DivergedError as error:
            records, diverged = [], str(error)
        return pd.DataFrame(records, columns=SCHEMA.names), PartScored(
            bytes=scorer.bytes,
            disk_bytes=disk_bytes(self.model, scorer.bytes),
            memory=peak_memory(),
            seconds=time.perf_counter() - started,
            cut=Counter(name for name, _ in scorer.lm.last_cut),
            diverged=diverged,
        )


def _cost(notes: list[PartScored], records: int) -> Cost:
    """Of all parts at a precision: one that diverged stands for all."""
    diverged = next((note.diverged for note in notes if note.diverged), "")
    seconds = sum(note.seconds for note in notes)
    return Cost(
        bytes=notes[0].bytes,
        disk_bytes=notes[0].disk_bytes,
        scoring_memory=max(note.memory for note in notes),
        ms_per_item=round(1000 * seconds / records, 6) if records and not diverged else None,
        diverged=diverged,
    )
