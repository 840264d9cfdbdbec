"""Stage ``anchors``: semantic anchors, the projection onto them, and its held-out quality."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.errors import UserError
from ecr_bench.io import write_json
from ecr_bench.section import Section
from ecr_bench.sections import AnchorsConfig, ProjectionConfig
from ecr_bench.stages.teacher import TeacherSettings, open_teacher
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS

if TYPE_CHECKING:
    import pandas as pd

POOL = 4096


class AnchorsSettings(Section):
    teacher: TeacherSettings
    rows: int
    """Training texts embedded."""
    anchors: AnchorsConfig
    projection: ProjectionConfig
    count: int
    """Codes of a text."""


@dataclass(frozen=True)
class AnchorsInputs:
    corpus: Path
    tokenizer: Path
    base: Path | None = None
    """Whose hidden states are projected, for the projections that look at a model."""
    teacher: Path | None = None
    """The experiment's own model in the place of a teacher."""
    layer: Path | None = None
    """The choice of its layer."""


class AnchorsFitted(Section):
    teacher: str
    """Fingerprint."""
    anchors: str
    """Fingerprint."""
    quality: dict[str, int | float]
    """``ecr.quality.Quality``."""


class AnchorsStage(Work[AnchorsSettings, AnchorsInputs, AnchorsFitted]):
    """Embed training texts once, derive anchors, fit the projection, measure it on held-out texts.

    Leaves ``anchors/``, ``projection/``, ``pool.safetensors`` (codes of training texts), ``quality.json`` and, where
    a base model is looked at, ``targets.safetensors``.
    """

    kind = "anchors"
    Settings, Inputs, Result = AnchorsSettings, AnchorsInputs, AnchorsFitted

    @staticmethod
    def run(settings: AnchorsSettings, inputs: AnchorsInputs, folder: Path, report: Report) -> AnchorsFitted:
        import torch
        from safetensors.torch import save_file
        from transformers import AutoModelForCausalLM

        from ecr_bench.data.tokenizer import load_tokenizer
        from ecr_bench.ecr.anchors import fit_anchors
        from ecr_bench.ecr.projection import fit_projection
        from ecr_bench.ecr.quality import measure
        from ecr_bench.ecr.rows import STREAMED, Centred, token_ids
        from ecr_bench.ecr.streamed import fit_streamed
        from ecr_bench.ecr.targets import save_targets
        from ecr_bench.teachers.cache import embed_on_disk
        from ecr_bench.weight_files import read_folder

        config, seed = settings.anchors, settings.anchors.seed
        train, held_out = _texts(inputs.corpus, settings.rows, seed)
        teacher = open_teacher(settings.teacher, inputs.teacher, inputs.layer)
        texts = train.text.tolist() + held_out.text.tolist()
        embedded = embed_on_disk(teacher, texts, on_progress=lambda done: report(done, len(texts)))
        langs_of_train = train.lang.tolist()
        levels = settings.count if config.assignment == "residual" else 1
        targets: torch.Tensor | Centred
        if len(train) > STREAMED:
            anchors = fit_streamed(embedded, langs_of_train, config, levels, teacher.fingerprint)
            targets = Centred(embedded, langs_of_train, anchors.language_means)
        else:
            vectors = torch.from_numpy(embedded[: len(train)])
            anchors = fit_anchors(vectors, langs_of_train, config, levels, teacher.fingerprint)
            targets = anchors.centre(vectors, langs_of_train)
        anchors.save(folder / "anchors")

        tokenizer = load_tokenizer(inputs.tokenizer / "tokenizer")
        encoder = read_folder(AutoModelForCausalLM, inputs.base / "model") if inputs.base else None
        train_ids, held_out_ids = (token_ids(tokenizer, part.text.tolist()) for part in (train, held_out))
        projection = fit_projection(settings.projection, train_ids, targets, len(tokenizer), encoder, seed)
        projection.save(folder / "projection")
        if encoder is not None:
            kept = targets if isinstance(targets, torch.Tensor) else targets.whole()
            save_targets(folder / "targets.safetensors", train_ids, kept)

        langs, labels = held_out.lang.tolist(), held_out.label.tolist()
        wanted = anchors.centre(torch.from_numpy(embedded[len(train) :]), langs)
        quality = asdict(measure(projection, anchors, held_out_ids, wanted, labels, langs, settings.count))
        pool = anchors.assign(projection(train_ids[:POOL]), settings.count)
        save_file({"pool": pool.contiguous()}, folder / "pool.safetensors")
        write_json(folder / "quality.json", quality)
        return AnchorsFitted(teacher=teacher.fingerprint, anchors=anchors.fingerprint, quality=quality)

    @classmethod
    def chosen(cls, settings: AnchorsSettings) -> Iterable[Chosen]:
        return [(TEACHERS, (settings.teacher.name,))]

    @classmethod
    def summary(cls, result: AnchorsFitted) -> str:
        from ecr_bench.ecr.quality import Quality

        quality: dict[str, Any] = result.quality
        return f"projection: {Quality(**quality).summary()}"


def _texts(corpus: Path, count: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """At most ``count`` training rows, and held-out ones."""
    from ecr_bench.corpora.base import Corpus
    from ecr_bench.data.sampling import teacher_texts

    rows = Corpus.load(corpus / "corpus")
    train, held_out = teacher_texts(rows.frame("lang", "split"), count, seed)
    if held_out.empty:
        raise UserError("the corpus has no validation or test rows to measure the projection on")
    return rows.at(train.index, "text", "lang"), rows.at(held_out.index, "text", "lang", "label")
