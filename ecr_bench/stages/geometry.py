"""Stage ``geometry``: what is measured of a finished cell beside accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import FieldSerializationInfo, field_serializer

from ecr_bench.io import read_json
from ecr_bench.items.registry import TASKS
from ecr_bench.outside import as_identity, data_set_counts
from ecr_bench.section import Section
from ecr_bench.stages.layout import LANGUAGES, ROWS, TEACHER
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS


class GeometrySettings(Section):
    layer: int
    """Which hidden state is pooled: 0 the embeddings, -1 the last."""
    precision: str
    batch_tokens: int
    sts_path: str
    sts_revision: str = ""
    sts_pairs: int

    @field_serializer("sts_path", "sts_revision")
    def _by_content(self, value: str, info: FieldSerializationInfo) -> str:
        if not as_identity(info):
            return value
        if info.field_name != "sts_path":
            return ""
        return data_set_counts(self.sts_path, self.sts_revision, "geometry.sts_path")


@dataclass(frozen=True)
class GeometryInputs:
    parallel: Path
    train: Path
    base: Path
    items: Path
    score: Path
    anchors: Path | None = None


class Measured(Section):
    measures: int
    rows: int
    diverged: str = ""


class GeometryStage(Work[GeometrySettings, GeometryInputs, Measured]):
    """Measure a finished cell and its snapshots; ``measures.json`` without the names an experiment gives."""

    kind = "geometry"
    Settings, Inputs, Result = GeometrySettings, GeometryInputs, Measured

    @staticmethod
    def run(settings: GeometrySettings, inputs: GeometryInputs, folder: Path, report: Report) -> Measured:
        import pandas as pd
        from safetensors.torch import load_file

        from ecr_bench.data.parallel import COLUMNS
        from ecr_bench.device import device
        from ecr_bench.evaluation.geometry import open_base, open_encoder
        from ecr_bench.evaluation.sts import read_sts
        from ecr_bench.metrics import finished
        from ecr_bench.metrics.files import FILE, write_measures
        from ecr_bench.metrics.suite import ParallelRows, Taken

        where, layer, batch = device(), settings.layer, settings.batch_tokens
        frame = pd.read_parquet(inputs.parallel / ROWS)[COLUMNS]
        teacher = load_file(inputs.parallel / TEACHER)["vectors"]
        encoder = open_encoder(inputs.train / "model", layer, where, batch)
        taken = Taken(layer=encoder.layer, precision=settings.precision)
        measures = list(finished.of_stability(inputs.train))
        if len(frame):
            rows, texts, langs = ParallelRows.of(frame), frame["text"].tolist(), frame["lang"].tolist()
            states = encoder.embed(texts, langs)
            plain = encoder.plain(texts, langs) if encoder.plain is not None else None
            measures += finished.of_text(encoder, texts, rows, taken)
            measures += finished.of_states(states, plain, teacher, rows, taken)
            if encoder.codes is not None and inputs.anchors is not None:
                measures += finished.of_codes(encoder, encoder.codes, inputs.anchors, sorted(set(texts)), taken)
            if encoder.layer is not None:  # without a language model nothing could have drifted
                base = open_base(inputs.base / "model", encoder.layer, where, batch)(texts, langs)
                measures += finished.of_drift(states, plain, base, rows, taken)
                measures += finished.of_snapshots(inputs.train, teacher, base, rows, taken)
        measures += finished.of_options(inputs.score, inputs.items, taken)
        if settings.sts_path:
            languages = read_json(inputs.parallel / LANGUAGES)
            measures += finished.of_similarity(
                encoder, read_sts(settings.sts_path, languages, settings.sts_pairs, settings.sts_revision), taken
            )
        write_measures(folder / FILE, measures)
        return Measured(measures=len(measures), rows=len(frame))

    @classmethod
    def of_diverged(cls, inputs: GeometryInputs, folder: Path, reason: str) -> Measured:
        """How it trained."""
        from ecr_bench.metrics import finished
        from ecr_bench.metrics.files import FILE, write_measures

        measures = list(finished.of_stability(inputs.train))
        write_measures(folder / FILE, measures)
        return Measured(measures=len(measures), rows=0, diverged=reason)

    @classmethod
    def chosen(cls, settings: GeometrySettings) -> Iterable[Chosen]:
        return [(TEACHERS, ()), (TASKS, ())]  # whom an arm asks counts through the stage that trained it
