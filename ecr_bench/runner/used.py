"""The models of a plan: those that its cells train, and those that these learn from, with what is asked of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecr_bench.config import CellSpec, Experiment
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.grid import plain_settings
from ecr_bench.runner.plan import Plan
from ecr_bench.sizes import SizeConfig


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
    window: int = 0
    """Tokens of the size that is distilled from its logits, all of which it must read."""
    layer: int | None = None
    """The hidden state it is asked for as the teacher."""

    @property
    def purpose(self) -> str:
        """Put behind the name of the size, it says why that is used."""
        return f" (for {self.key})" if self.key else ""


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
    window: int = 0
    """As of ``UsedSize``."""


def used_sizes(plan: Plan) -> list[UsedSize]:
    """Each size that a cell of ``plan`` trains or learns from, once for each of the settings it is used with."""
    found: dict[tuple[str, ...], UsedSize] = {}
    for spec, size, local in _arms(plan):
        for used in _sizes_of(plan.experiment, spec, size, local):
            settings = used.settings.model_copy(update={"cells": ()}).model_dump_json()
            rest = (used.name, *used.trained, used.key, str(used.window), str(used.layer))
            found.setdefault((settings, *rest), used)
    return list(found.values())


def used_models(plan: Plan) -> list[UsedModel]:
    """Each model outside of ``sizes`` that a cell of ``plan`` learns from, once."""
    return list(dict.fromkeys(model for arm in _arms(plan) for model in _models_of(*arm)))


def _arms(plan: Plan) -> Iterator[tuple[CellSpec, str, Experiment]]:
    for spec in plan.experiment.cells:
        for size in spec.sizes:
            yield spec, size, plan.experiment.tuned_for(spec, size)


def _sizes_of(declared: Experiment, spec: CellSpec, size: str, local: Experiment) -> Iterator[UsedSize]:
    recipe, window = Recipe.of_spec(spec, local.options), local.sizes[size].max_length
    yield UsedSize(size, local, _trained(local, ("pretrain", "finetune") if recipe.trains_model else ("pretrain",)))
    if larger := local.pretrain.distill:
        plain = plain_settings(declared, spec.set, larger)
        from_scratch = isinstance(plain.sizes[larger], SizeConfig)
        trained = _trained(plain, ("pretrain",) if from_scratch else ())
        yield UsedSize(larger, plain, trained, "pretrain.distill", window)
    if recipe.larger is not None and not recipe.larger.model:
        plain = plain_settings(declared, spec.set, recipe.larger.size)
        trained = _trained(plain, ("pretrain", "finetune"))
        yield UsedSize(recipe.larger.size, plain, trained, "options.distill.size", window)
    options = local.teacher.options
    if local.teacher.name == "checkpoint" and options.get("size") and _asks_teacher(local, recipe):
        own, state, layer = options["size"], options.get("state", "finetuned"), options.get("layer", -1)
        plain = plain_settings(declared, spec.set, own)
        stages = {"pretrained": (), "base": ("pretrain",)}.get(state, ("pretrain", "finetune"))
        number = layer if isinstance(layer, int) else None
        yield UsedSize(own, plain, _trained(plain, stages), "teacher.options.size", layer=number)


def _models_of(spec: CellSpec, size: str, local: Experiment) -> Iterator[UsedModel]:
    recipe, options = Recipe.of_spec(spec, local.options), local.teacher.options
    if _asks_teacher(local, recipe):
        if local.teacher.name == "hf":
            width = 2 if options.get("dtype") == "bfloat16" else 4
            yield UsedModel("teacher.options.model", options["model"], options.get("revision", ""), width)
        if local.teacher.name == "checkpoint" and options.get("path"):
            yield UsedModel("teacher.options.path", options["path"])
    if recipe.larger is not None and recipe.larger.model:
        window = local.sizes[size].max_length
        yield UsedModel("options.distill.model", recipe.larger.model, distilled=True, window=window)


def _trained(settings: Experiment, stages: Sequence[str]) -> tuple[str, ...]:
    return tuple(stage for stage in stages if getattr(settings, stage).steps)


def _asks_teacher(local: Experiment, recipe: Recipe) -> bool:
    method = recipe.method
    return local.geometry.measure or recipe.uses_anchors or method.uses_teacher or method.distils_teacher
