"""Stage ``logits``: what the larger model says of the training rows of a cell, asked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecr_bench.items.registry import TASKS
from ecr_bench.methods.distill import Distill
from ecr_bench.section import Section
from ecr_bench.stages.parts import tensor_part
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS


class LogitsSettings(Section):
    distill: Distill.Options
    seed: int
    items: int
    """Unlabelled texts of the mixture: ``finetune.items``."""
    window: int
    whole: bool
    """Whether these texts are whole, or cut in two: ``finetune.texts``."""


@dataclass(frozen=True)
class LogitsInputs:
    corpus: Path
    tokenizer: Path
    items: Path
    larger: Path | None = None
    """The trained larger cell, unless the model is a folder of the user's."""


class LogitsKept(Section):
    positions: int
    bytes: int


class LogitsStage(Work[LogitsSettings, LogitsInputs, LogitsKept]):
    """Keep a cache of teacher probabilities; it is checked when it is read."""

    kind = "logits"
    Settings, Inputs, Result = LogitsSettings, LogitsInputs, LogitsKept

    @staticmethod
    def run(settings: LogitsSettings, inputs: LogitsInputs, folder: Path, report: Report) -> LogitsKept:
        return LogitsStage.resume(settings, inputs, folder, report)

    @classmethod
    def resume(
        cls, settings: LogitsSettings, inputs: LogitsInputs, folder: Path, report: Report, kept: Path | None = None
    ) -> LogitsKept:
        from ecr_bench.data.tokenizer import load_tokenizer
        from ecr_bench.methods.distill import teacher_folder
        from ecr_bench.methods.teacher_logits import FILE, build_cache, cache_identity, load_teacher, plain_rows
        from ecr_bench.stages.mixture import training_rows

        distill, seed = settings.distill, settings.seed
        tokenizer = load_tokenizer(inputs.tokenizer / "tokenizer")
        items, texts = training_rows(tokenizer, inputs.corpus, inputs.items, settings.items, seed, settings.whole)
        plain = plain_rows(tokenizer, items, texts, settings.window)
        source = teacher_folder(distill, {"larger": inputs.larger} if inputs.larger else {})
        teacher = load_teacher(source, tokenizer, settings.window)
        cache = build_cache(teacher, plain, distill, len(tokenizer), seed, report, partial(tensor_part, kept))
        cache.save(folder, cache_identity(source, plain, distill, seed))
        return LogitsKept(positions=len(cache.tensors["labels"]), bytes=(folder / FILE).stat().st_size)

    @classmethod
    def chosen(cls, settings: LogitsSettings) -> Iterable[Chosen]:
        return [(TEACHERS, ()), (TASKS, ())]  # within reach of the code that encodes rows; neither is asked
