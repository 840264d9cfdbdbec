"""Stage ``base``: one model of a size before fine-tuning, shared by all arms that may share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.items.registry import TASKS
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.section import Section
from ecr_bench.sections import PretrainConfig
from ecr_bench.sizes import Size
from ecr_bench.stages.fitted import Fitted
from ecr_bench.stages.ingredients import RecipeReads, ingredients
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ecr_bench.data.cutting import TextRow
    from ecr_bench.data.encode import Example
    from ecr_bench.ecr.conditioner import Conditioner

HELD_OUT = 1000
"""Validation texts at most."""
ENCODED = 8192
"""Texts that are encoded at once."""


class BaseSettings(Section):
    size: Size
    pretrain: PretrainConfig
    reads: RecipeReads
    """The method that pre-trains it, and what that reads: ``finetune`` for the plain base."""


@dataclass(frozen=True)
class BaseInputs:
    corpus: Path
    tokenizer: Path
    anchors: Path | None = None
    start: Path | None = None
    """A pretrained model that was compressed, in the place of the whole one."""
    larger: Path | None = None
    """The larger model that is distilled."""


class BaseMade(Section):
    parameters: int
    """Of the model, control-token rows included."""
    training: Fitted | None = None
    """None for a pretrained model that is taken as it is."""
    cut: int = 0
    """Texts that did not fit the window whole, of ``texts``."""
    texts: int = 0
    diverged: str = ""


class BaseStage(Work[BaseSettings, BaseInputs, BaseMade]):
    """Pre-train one size on the unlabelled training text of all languages, or go on from a pretrained model.

    Leaves ``model/`` with its tokenizer and, where control tokens stood in front of the text, ``conditioner/``.
    """

    kind = "base"
    Settings, Inputs, Result = BaseSettings, BaseInputs, BaseMade

    @staticmethod
    def run(settings: BaseSettings, inputs: BaseInputs, folder: Path, report: Report) -> BaseMade:
        return BaseStage.resume(settings, inputs, folder, report)

    @classmethod
    def resume(
        cls, settings: BaseSettings, inputs: BaseInputs, folder: Path, report: Report, kept: Path | None = None
    ) -> BaseMade:
        import torch
        from transformers import AutoModelForCausalLM

        from ecr_bench.data.tokenizer import load_tokenizer
        from ecr_bench.methods.models import base_model, count_parameters
        from ecr_bench.stages.processes import inside, on_devices
        from ecr_bench.weight_files import read_folder

        pretrain, size = settings.pretrain, settings.size
        if (count := cls.devices(settings)) > 1 and not inside():
            return on_devices(cls, count, settings, inputs, folder, report, kept)
        tokenizer = load_tokenizer(inputs.tokenizer / "tokenizer")
        if inputs.start is None:
            model = base_model(size, tokenizer, pretrain.seed, as_is=not pretrain.steps)
        else:
            dtype: Any = torch.float32 if pretrain.steps else "auto"
            model = read_folder(AutoModelForCausalLM, inputs.start / "model", dtype=dtype).eval()
        if not pretrain.steps:
            model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            return BaseMade(parameters=count_parameters(model))
        return _pretrain(settings, inputs, model, tokenizer, folder, report, kept)

    @classmethod
    def devices(cls, settings: BaseSettings) -> int:
        return settings.size.devices.count if settings.pretrain.steps else 1

    @classmethod
    def chosen(cls, settings: BaseSettings) -> Iterable[Chosen]:
        recipe, teacher = settings.reads.recipe, settings.reads.teacher
        # tasks are within reach of the code that encodes rows; none is asked
        asked = (teacher.name,) if teacher else ()
        return [(METHODS, (recipe.method,)), (MODIFIERS, recipe.modifiers), (TEACHERS, asked), (TASKS, ())]


def _pretrain(
    settings: BaseSettings,
    inputs: BaseInputs,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    report: Report,
    kept: Path | None,
) -> BaseMade:
    """Cross-entropy (and what else the recipe adds) on whole texts, behind the control tokens of each where the method
    has them from here on."""
    from ecr_bench.data.encode import encode_texts
    from ecr_bench.data.module import ExamplesDataModule, Mixture
    from ecr_bench.data.packed import PackedExamples
    from ecr_bench.methods.method import Training
    from ecr_bench.methods.models import count_parameters, fit_to_machine
    from ecr_bench.stages.fitting import fit

    pretrain, size, reads = settings.pretrain, settings.size, settings.reads
    seed, recipe, window = pretrain.seed, reads.recipe.recipe, size.max_length
    width = model.config.get_text_config().hidden_size
    given = ingredients(reads, tokenizer, inputs.corpus, inputs.anchors, width)
    conditioner = recipe.conditioner(given)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, reads.control_tokens.init_std, seed)
    fit_to_machine(model, size)
    texts, held_out = _texts(inputs.corpus)
    module = recipe.module(model, pretrain)
    folders = {role: path for role, path in vars(inputs).items() if path is not None}
    module.prepare(Training(given, conditioner, [], texts, window, seed, reads.sections, folders, pretraining=True))
    rows = PackedExamples.of(_encoded(conditioner, texts, window, reads.control_tokens.absent, seed), folder)
    judged, pad = encode_texts(conditioner, held_out, window), tokenizer.pad_token_id
    data = ExamplesDataModule(Mixture([], rows, 1.0), judged, pad, pretrain.batch_size, pretrain.steps, seed)
    fitted = fit(module, data, pretrain, seed, folder, report, dtype=size.dtype, kept=kept, devices=size.devices)
    model = module.model
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    if conditioner.tokens is not None:
        conditioner.save(folder / "model" / "conditioner")
    cut = sum(row.ids[-1] != tokenizer.eos_token_id for row in rows)
    parameters = count_parameters(model)
    return BaseMade(parameters=parameters, training=fitted, cut=cut, texts=len(rows), diverged=fitted.diverged)


def _texts(corpus: Path) -> tuple[Sequence[TextRow], list[TextRow]]:
    """All training texts, which stay on disk, and validation texts."""
    from ecr_bench.corpora.base import Corpus
    from ecr_bench.data.cutting import whole_texts
    from ecr_bench.data.texts import WholeTexts

    rows = Corpus.load(corpus / "corpus")
    held_out = rows.frame("text", "lang", splits=["validation"])
    held_out = held_out.sample(min(HELD_OUT, len(held_out)), random_state=0)
    return WholeTexts.of(rows), whole_texts(zip(held_out.text, held_out.lang, strict=True))


def _encoded(
    conditioner: Conditioner, texts: Sequence[TextRow], window: int, absent: float, seed: int
) -> Iterator[list[Example]]:
    """All ``texts``, some at a time."""
    import numpy as np

    from ecr_bench.data.encode import encode_texts

    drawn = np.random.default_rng(seed)
    for start in range(0, len(texts), ENCODED):
        part = encode_texts(conditioner, texts[start : start + ENCODED], window)
        yield without_some(part, conditioner, absent, drawn)


def without_some(
    rows: Sequence[Example], conditioner: Conditioner, share: float, seed: int | np.random.Generator
) -> list[Example]:
    """``rows`` with null tokens in place of the control tokens in a ``share`` of them, drawn by ``seed``."""
    import numpy as np

    tokens = conditioner.tokens
    if not share or tokens is None:
        return list(rows)
    absent = np.random.default_rng(seed).random(len(rows)) < share
    return [replace(row, ids=tokens.absent(row.ids)) if drawn else row for row, drawn in zip(rows, absent, strict=True)]
