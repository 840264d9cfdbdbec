"""Stage ``base``: one model of a size before fine-tuning, shared by all arms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecr_bench.items.registry import TASKS
from ecr_bench.section import Section
from ecr_bench.sections import PretrainConfig
from ecr_bench.sizes import Size
from ecr_bench.stages.fitted import Fitted
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS


class BaseSettings(Section):
    size: Size
    pretrain: PretrainConfig


@dataclass(frozen=True)
class BaseInputs:
    corpus: Path
    tokenizer: Path


class BaseMade(Section):
    parameters: int
    training: Fitted | None = None
    """None for a pretrained model that is taken as it is."""
    diverged: str = ""


class BaseStage(Work[BaseSettings, BaseInputs, BaseMade]):
    """Pre-train one size on the unlabelled training text of all languages, or go on from a pretrained model."""

    kind = "base"
    Settings, Inputs, Result = BaseSettings, BaseInputs, BaseMade

    @staticmethod
    def run(settings: BaseSettings, inputs: BaseInputs, folder: Path, report: Report) -> BaseMade:
        from ecr_bench.corpora.base import Corpus
        from ecr_bench.data.encode import encode_plain
        from ecr_bench.data.module import ExamplesDataModule, Mixture
        from ecr_bench.data.tokenizer import load_tokenizer
        from ecr_bench.methods.base import CausalLMModule
        from ecr_bench.methods.models import base_model, count_parameters, fit_to_machine
        from ecr_bench.stages.fitting import fit

        pretrain, size = settings.pretrain, settings.size
        tokenizer = load_tokenizer(inputs.tokenizer / "tokenizer")
        model = base_model(size, tokenizer, pretrain.seed, as_is=not pretrain.steps)
        if not pretrain.steps:
            model.save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            return BaseMade(parameters=count_parameters(model))
        fit_to_machine(model, size)
        rows = Corpus.load(inputs.corpus / "corpus").dataset.to_pandas()
        text = encode_plain(tokenizer, rows[rows.split == "train"].text.tolist(), size.max_length)
        held_out = rows[rows.split == "validation"].text
        held_out = held_out.sample(min(1000, len(held_out)), random_state=0)
        validation = encode_plain(tokenizer, held_out.tolist(), size.max_length)
        mixture = Mixture([], text, 1.0)
        seed, pad = pretrain.seed, tokenizer.pad_token_id
        data = ExamplesDataModule(mixture, validation, pad, pretrain.batch_size, pretrain.steps, seed)
        fitted = fit(CausalLMModule(model, pretrain), data, pretrain, seed, folder, report, dtype=size.dtype)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        return BaseMade(parameters=count_parameters(model), training=fitted, diverged=fitted.diverged)

    @classmethod
    def chosen(cls, settings: BaseSettings) -> Iterable[Chosen]:
        return [(TEACHERS, ()), (TASKS, ())]  # within reach of the code that encodes rows; neither is asked
