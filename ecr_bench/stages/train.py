"""Stage ``train``: the shared base model fine-tuned as one arm, or the probe fitted that has no language model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecr_bench.items.registry import TASKS
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.section import Section
from ecr_bench.sections import FinetuneConfig
from ecr_bench.sizes import Fitting
from ecr_bench.stages.ingredients import RecipeReads, ingredients
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ecr_bench.data.encode import Example
    from ecr_bench.ecr.conditioner import Conditioner
    from ecr_bench.methods.method import Ingredients
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.stages.fitting import Snapshots


class Pooling(Section):
    """Which states are kept at several steps, for drift and manifold curves."""

    layer: int
    per_language: int
    """Held-out translation pairs with English, for each other language."""
    snapshots: int


class TrainSettings(RecipeReads):
    """Only what this recipe reads, so that an anchor setting does not train the plain arms again."""

    seed: int
    finetune: FinetuneConfig
    fitting: Fitting | None = None
    pooling: Pooling | None = None
    """Both None for an arm without a language model."""


@dataclass(frozen=True)
class TrainInputs:
    corpus: Path
    tokenizer: Path
    items: Path
    base: Path
    anchors: Path | None = None
    larger: Path | None = None
    """The larger plain cell that is distilled."""
    logits: Path | None = None
    """What it said of the training rows."""

    @property
    def by_role(self) -> dict[str, Path]:
        return {role: folder for role, folder in vars(self).items() if folder is not None}


class Trained(Section):
    """What an arm costs and how its training went; numbers that a probe has not are None."""

    parameters: int
    """Of the model, adapters and control-token rows included."""
    side_parameters: int = 0
    """Of what lies beside the model at test time: projection and anchors."""
    side_bytes: int = 0
    deployable: bool = True
    """False where the teacher is asked at test time."""
    extra_tokens: int = 0
    """Control tokens of a prompt."""
    train_seconds: float
    peak_memory: int
    """Bytes."""
    steps: int | None = None
    tokens: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    grad_norm_median: float | None = None
    grad_norm_max: float | None = None
    finite: bool | None = None
    probe: dict[str, dict[str, Any]] | None = None
    """Task -> numbers of the fit."""
    diverged: str = ""
    """Why it cannot be scored; empty where it is sound."""


class TrainStage(Work[TrainSettings, TrainInputs, Trained]):
    """Leaves ``model/`` (with tokenizer and ``conditioner/``), ``tensorboard/`` and, for a language model,
    ``trace.safetensors`` and ``snapshots.safetensors``."""

    kind = "train"
    Settings, Inputs, Result = TrainSettings, TrainInputs, Trained

    @staticmethod
    def run(settings: TrainSettings, inputs: TrainInputs, folder: Path, report: Report) -> Trained:
        return TrainStage.resume(settings, inputs, folder, report)

    @classmethod
    def resume(
        cls, settings: TrainSettings, inputs: TrainInputs, folder: Path, report: Report, kept: Path | None = None
    ) -> Trained:
        from transformers import AutoConfig

        from ecr_bench.data.tokenizer import load_tokenizer
        from ecr_bench.stages.processes import inside, on_devices

        if (count := cls.devices(settings)) > 1 and not inside():
            return on_devices(cls, count, settings, inputs, folder, report, kept)
        tokenizer = load_tokenizer(inputs.tokenizer / "tokenizer")
        width = AutoConfig.from_pretrained(inputs.base / "model", trust_remote_code=False).get_text_config().hidden_size
        given = ingredients(settings, tokenizer, inputs.corpus, inputs.anchors, width)
        if settings.recipe.recipe.trains_model:
            return _train(settings, inputs, given, folder, report, kept)
        return _fit_probe(inputs, given, folder)

    @classmethod
    def devices(cls, settings: TrainSettings) -> int:
        return settings.fitting.devices.count if settings.fitting else 1

    @classmethod
    def chosen(cls, settings: TrainSettings) -> Iterable[Chosen]:
        recipe, asked = settings.recipe, (settings.teacher.name,) if settings.teacher else ()
        return [(METHODS, (recipe.method,)), (MODIFIERS, recipe.modifiers), (TEACHERS, asked), (TASKS, ())]


def _train(
    settings: TrainSettings,
    inputs: TrainInputs,
    given: Ingredients,
    folder: Path,
    report: Report,
    kept: Path | None,
) -> Trained:
    """Fine-tune the base model; save model, tokenizer and conditioner together."""
    import torch
    from transformers import AutoModelForCausalLM

    from ecr_bench.data.encode import encode_items, encode_texts, refuse_empty_options, refuse_too_long
    from ecr_bench.data.module import ExamplesDataModule, Mixture
    from ecr_bench.data.tokenizer import context_window
    from ecr_bench.items.files import read_items
    from ecr_bench.methods.method import Training
    from ecr_bench.methods.models import count_parameters, fit_to_machine
    from ecr_bench.stages.fitting import fit
    from ecr_bench.stages.mixture import training_rows
    from ecr_bench.weight_files import read_folder

    recipe, finetune, seed = settings.recipe.recipe, settings.finetune, settings.seed
    assert settings.fitting is not None
    devices = settings.fitting.devices
    tested = read_items(inputs.items / "test")
    refuse_empty_options(given.tokenizer, tested)  # before anything is trained
    conditioner = recipe.conditioner(given)
    model: Any = read_folder(AutoModelForCausalLM, inputs.base / "model", dtype=torch.float32)
    _add_tokens(recipe, conditioner, model, inputs.base, settings)
    window = context_window(model.config, given.tokenizer)
    refuse_too_long(conditioner, tested, window)
    parameters = count_parameters(model)  # before quantisation, which packs several into one number
    if recipe.base_precision is not None:
        from ecr_bench.device import device
        from ecr_bench.precision.adapted import quantise_into

        model = quantise_into(folder / "model", model, recipe.base_precision, device())

    fit_to_machine(model, settings.fitting)
    whole = finetune.texts == "whole"
    items, texts = training_rows(given.tokenizer, inputs.corpus, inputs.items, finetune.items, seed, whole)
    module = recipe.module(model, finetune)
    held_out = read_items(inputs.items / "validation")
    module.prepare(
        Training(given, conditioner, items, texts, window, seed, settings.sections, inputs.by_role, held_out)
    )

    def encode(arm: Conditioner) -> tuple[list[Example], list[Example]]:
        return encode_items(arm, items, window), encode_texts(arm, texts, window)

    def encode_held_out(arm: Conditioner) -> list[Example]:
        return encode_items(arm, held_out, window)

    data = ExamplesDataModule(
        Mixture(*encode(conditioner), finetune.text_share),
        encode_held_out(conditioner),
        given.tokenizer.pad_token_id,
        finetune.batch_size,
        finetune.steps,
        seed,
        module.variation(lambda arm: list(chain(*encode(arm)))),
        module.validation_variation(encode_held_out),
    )
    snapshots = _snapshots(settings, inputs, module, conditioner)
    fitted = fit(module, data, finetune, seed, folder, report, [snapshots], settings.fitting.dtype, kept, devices)
    snapshots.save(folder)
    module.save_model(folder / "model")
    given.tokenizer.save_pretrained(folder / "model")
    conditioner.save(folder / "model" / "conditioner")
    source, beside = conditioner.source, module.beside
    return Trained(
        parameters=parameters + module.adapter_parameters,
        side_parameters=(source.side_parameters if source else 0) + beside[0],
        side_bytes=(source.side_bytes if source else 0) + beside[1],
        deployable=source.deployable if source else True,
        extra_tokens=conditioner.count,
        **fitted.model_dump(),
    )


def _add_tokens(
    recipe: Recipe, conditioner: Conditioner, model: PreTrainedModel, base: Path, settings: TrainSettings
) -> None:
    """Rows for the control tokens, new ones unless the base model has read them already."""
    if conditioner.tokens is None:
        return
    if recipe.base(settings.control_tokens) is None:
        conditioner.tokens.add_to(model, settings.control_tokens.init_std, settings.seed)
    else:
        recipe.method.go_on(conditioner, base / "model" / "conditioner")


def _snapshots(settings: TrainSettings, inputs: TrainInputs, module: ArmModule, conditioner: Conditioner) -> Snapshots:
    """Pooled states of held-out translation pairs at several steps."""
    from ecr_bench.corpora.base import Corpus
    from ecr_bench.data.parallel import parallel_rows
    from ecr_bench.evaluation.pooled import pooled_states
    from ecr_bench.stages.fitting import Snapshots
    from ecr_bench.types import CORPUS_COLUMNS

    pooling = settings.pooling
    assert pooling is not None
    rows = Corpus.load(inputs.corpus / "corpus").frame(*CORPUS_COLUMNS, splits=["validation", "test"])
    held_out = parallel_rows(rows, pooling.per_language)
    texts, langs = held_out["text"].tolist(), held_out["lang"].tolist()
    times = pooling.snapshots if texts else 0

    def pool() -> Any:
        return module.gathered(lambda: pooled_states(module.model, conditioner, texts, langs, pooling.layer))

    return Snapshots(pool, settings.finetune.steps, times)


def _fit_probe(inputs: TrainInputs, given: Ingredients, folder: Path) -> Trained:
    """Fit the probe on the labelled rows the other arms get and save it."""
    import time

    from torch.utils.tensorboard import SummaryWriter

    from ecr_bench.items.files import read_items
    from ecr_bench.memory import peak_memory, reset_peak_memory
    from ecr_bench.methods.probe import fit_probe

    assert given.projection is not None
    reset_peak_memory()
    started = time.perf_counter()
    training, validation = read_items(inputs.items / "train"), read_items(inputs.items / "validation")
    probe, stats = fit_probe(given.tokenizer, given.projection, training, validation)
    probe.save(folder / "model")
    finite = all(weight.isfinite().all() for weight in probe.weights.values())
    with SummaryWriter(folder / "tensorboard") as board:
        for task, numbers in stats.items():
            for name, value in numbers.items():
                board.add_scalar(f"probe/{task}/{name}", value, 0)
    return Trained(
        parameters=probe.parameters,
        side_parameters=given.projection.parameters,
        side_bytes=given.projection.bytes,
        train_seconds=round(time.perf_counter() - started, 2),
        peak_memory=peak_memory(),
        probe=stats,
        diverged="" if finite else "the weights of the probe are not finite",
    )
