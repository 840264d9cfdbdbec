"""The models of a plan: those that its cells train, and those that these learn from, with what is asked of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ecr_bench.config import CellSpec, Experiment
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.grid import plain_settings
from ecr_bench.runner.plan import Plan
from ecr_bench.sizes import STAGES_OF, PretrainedSize, SizeConfig


@dataclass(frozen=True)
class UsedSize:
    """A size that is trained, or read as it came."""

    name: str
    settings: Experiment
    """With what is tuned for it, and what its cells set."""
    trained: tuple[str, ...]
    """What it goes through of ``pretrain`` and ``finetune``."""
    key: str = ""
    """The setting that names it where others learn from it; empty for a cell's own."""
    layer: int | None = None
    """The hidden state it is asked for as the teacher."""
    adapted: bool = False
    """Whether fine-tuning leaves its weights as they are and trains adapters beside them."""
    quantised: str = ""
    """The precision that its weights have then, if another than float32."""

    @property
    def size(self) -> SizeConfig | PretrainedSize:
        return self.settings.sizes[self.name]

    @property
    def purpose(self) -> str:
        """Put behind the name of the size, it says why that is used."""
        return f" (for {self.key})" if self.key else ""

    @property
    def weights_trained(self) -> bool:
        """Whether all of its weights are trained, in either stage."""
        return "pretrain" in self.trained or ("finetune" in self.trained and not self.adapted)


@dataclass(frozen=True)
class UsedModel:
    """A model by folder or hub id that is read and not trained."""

    key: str
    """The setting that names it."""
    source: str
    revision: str = ""
    bytes: int = 4
    """Of a number of it in memory."""
    distilled: bool = False
    """Whether its logits are learned from, and not its hidden states."""


@dataclass(frozen=True)
class Distillation:
    """A size that learns from the logits of another model, which must have its tokenizer and read all it reads."""

    key: str
    """The setting that names the other model."""
    student: UsedSize
    larger: UsedSize | UsedModel
    in_steps: bool
    """Whether that is asked while the student trains, and lies in memory beside it."""


def used_sizes(plan: Plan) -> list[UsedSize]:
    """Each size that a cell of ``plan`` trains or learns from, once for each of the settings it is used with."""
    found: dict[tuple[str, ...], UsedSize] = {}
    for arm in _arms(plan):
        for used in _sizes_of(*arm):
            found.setdefault(_identity(used), used)
    return list(found.values())


def used_models(plan: Plan) -> list[UsedModel]:
    """Each model outside of ``sizes`` that a cell of ``plan`` learns from, once."""
    return list(dict.fromkeys(model for arm in _arms(plan) for model in _models_of(*arm)))


def distillations(plan: Plan) -> list[Distillation]:
    """Each pair of a cell's size and a model whose logits that learns from, once for each of their settings."""
    found: dict[tuple[str, ...], Distillation] = {}
    for arm in _arms(plan):
        for pair in _distillations_of(*arm):
            other = pair.larger
            whose = _identity(other) if isinstance(other, UsedSize) else (other.source,)
            found.setdefault((pair.key, str(pair.in_steps), *_identity(pair.student), *whose), pair)
    return list(found.values())


def _identity(used: UsedSize) -> tuple[str, ...]:
    settings = used.settings.model_copy(update={"cells": ()}).model_dump_json()
    return (settings, used.name, *used.trained, used.key, str(used.layer), str(used.adapted), used.quantised)


def _arms(plan: Plan) -> Iterator[tuple[Experiment, CellSpec, str]]:
    for spec in plan.experiment.cells:
        for size in spec.sizes:
            yield plan.experiment, spec, size


def _sizes_of(declared: Experiment, spec: CellSpec, size: str) -> Iterator[UsedSize]:
    yield (own := _own_size(declared, spec, size))
    for pair in _distillations_of(declared, spec, size):
        if isinstance(pair.larger, UsedSize):
            yield pair.larger
    local, recipe = own.settings, Recipe.of_spec(spec, own.settings.options)
    options = local.teacher.options
    if local.teacher.name == "checkpoint" and options.get("size") and _asks_teacher(local, recipe):
        theirs, state, layer = options["size"], options.get("state", "finetuned"), options.get("layer", -1)
        plain = plain_settings(declared, spec.set, theirs)
        stages = STAGES_OF.get(state, ())
        number = layer if isinstance(layer, int) else None
        yield UsedSize(theirs, plain, _trained(plain, stages), "teacher.options.size", layer=number)


def _own_size(declared: Experiment, spec: CellSpec, size: str) -> UsedSize:
    local = declared.tuned_for(spec, size)
    recipe = Recipe.of_spec(spec, local.options)
    stages = ("pretrain", "finetune") if recipe.trains_model else ("pretrain",)
    adapted, quantised = not recipe.trains_weights, recipe.base_precision or ""
    return UsedSize(size, local, _trained(local, stages), adapted=adapted, quantised=quantised)


def _models_of(declared: Experiment, spec: CellSpec, size: str) -> Iterator[UsedModel]:
    local = declared.tuned_for(spec, size)
    recipe, options = Recipe.of_spec(spec, local.options), local.teacher.options
    if _asks_teacher(local, recipe):
        if local.teacher.name == "hf":
            width = 2 if options.get("dtype") == "bfloat16" else 4
            yield UsedModel("teacher.options.model", options["model"], options.get("revision", ""), width)
        if local.teacher.name == "checkpoint" and options.get("path"):
            yield UsedModel("teacher.options.path", options["path"])
    for pair in _distillations_of(declared, spec, size):
        if isinstance(pair.larger, UsedModel):
            yield pair.larger


def _distillations_of(declared: Experiment, spec: CellSpec, size: str) -> Iterator[Distillation]:
    own = _own_size(declared, spec, size)
    distill = Recipe.of_spec(spec, own.settings.options).larger
    if larger := own.settings.pretrain.distill:
        plain = plain_settings(declared, spec.set, larger)
        from_scratch = isinstance(plain.sizes[larger], SizeConfig)
        trained = _trained(plain, ("pretrain",) if from_scratch else ())
        key = "pretrain.distill"
        healed = replace(own, trained=_trained(own.settings, ("pretrain",)))
        yield Distillation(key, healed, UsedSize(larger, plain, trained, key), in_steps=True)
    if distill is None:
        return
    tuned, in_steps = replace(own, trained=_trained(own.settings, ("finetune",))), distill.cache_top_k is None
    if distill.model:
        key = "options.distill.model"
        yield Distillation(key, tuned, UsedModel(key, distill.model, distilled=True), in_steps)
    else:
        key, plain = "options.distill.size", plain_settings(declared, spec.set, distill.size)
        trained = _trained(plain, ("pretrain", "finetune"))
        yield Distillation(key, tuned, UsedSize(distill.size, plain, trained, key), in_steps)


def _trained(settings: Experiment, stages: Sequence[str]) -> tuple[str, ...]:
    return tuple(stage for stage in stages if getattr(settings, stage).steps)


def _asks_teacher(local: Experiment, recipe: Recipe) -> bool:
    return local.geometry.measure or recipe.uses_anchors or recipe.asks_teacher
