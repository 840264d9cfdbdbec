"""Stage ``parallel``: held-out translation pairs as the teacher sees them, once for all cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecr_bench.io import write_json
from ecr_bench.section import Section
from ecr_bench.stages.layout import LANGUAGES, ROWS, TEACHER
from ecr_bench.stages.teacher import TeacherSettings, open_teacher
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.types import CORPUS_COLUMNS


class ParallelSettings(Section):
    per_language: int
    teacher: TeacherSettings


@dataclass(frozen=True)
class ParallelInputs:
    corpus: Path
    teacher: Path | None = None
    """The experiment's own model in the place of a teacher."""
    layer: Path | None = None
    """The choice of its layer."""


class ParallelDrawn(Section):
    rows: int
    teacher: str
    """Fingerprint."""


class ParallelStage(Work[ParallelSettings, ParallelInputs, ParallelDrawn]):
    """Write the rows, their teacher vectors (N, d) and the languages of the corpus."""

    kind = "parallel"
    Settings, Inputs, Result = ParallelSettings, ParallelInputs, ParallelDrawn

    @staticmethod
    def run(settings: ParallelSettings, inputs: ParallelInputs, folder: Path, report: Report) -> ParallelDrawn:
        import torch
        from safetensors.torch import save_file

        from ecr_bench.corpora.base import Corpus
        from ecr_bench.data.parallel import parallel_rows
        from ecr_bench.teachers.cache import embed_cached

        corpus = Corpus.load(inputs.corpus / "corpus")
        rows = parallel_rows(corpus.frame(*CORPUS_COLUMNS, splits=["validation", "test"]), settings.per_language)
        teacher = open_teacher(settings.teacher, inputs.teacher, inputs.layer)
        texts = rows["text"].tolist()
        vectors = embed_cached(teacher, texts, on_progress=lambda done: report(done, len(texts)))
        rows.to_parquet(folder / ROWS)
        write_json(folder / LANGUAGES, sorted(corpus.card.languages))
        save_file({"vectors": torch.from_numpy(vectors.copy())}, folder / TEACHER)
        return ParallelDrawn(rows=len(rows), teacher=teacher.fingerprint)

    @classmethod
    def chosen(cls, settings: ParallelSettings) -> Iterable[Chosen]:
        return [(TEACHERS, (settings.teacher.name,))]
