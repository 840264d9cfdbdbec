"""The stages of one cell of an experiment, and of whatever it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ecr_bench.arm import Arm
from ecr_bench.config import ArmSpec, Experiment, FinetuneConfig, PretrainConfig
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.errors import UserError, unknown
from ecr_bench.methods.distill import IN_PRETRAINING, Distill, teacher_folder
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.weights import weight_files
from ecr_bench.sizes import STAGES_OF, Fitting, PretrainedSize, SizeConfig
from ecr_bench.stages.anchors import AnchorsSettings, AnchorsStage
from ecr_bench.stages.base_model import BaseSettings, BaseStage
from ecr_bench.stages.compress import CompressSettings, CompressStage
from ecr_bench.stages.corpus import CorpusSettings, CorpusStage
from ecr_bench.stages.geometry import GeometrySettings, GeometryStage
from ecr_bench.stages.ingredients import CodeShape, RecipeReads, RecipeSettings
from ecr_bench.stages.items import ItemsSettings, ItemsStage
from ecr_bench.stages.logits import LogitsSettings, LogitsStage
from ecr_bench.stages.parallel import ParallelSettings, ParallelStage
from ecr_bench.stages.score import ScoreSettings, ScoreStage
from ecr_bench.stages.stage import Stage
from ecr_bench.stages.teacher import TeacherSettings
from ecr_bench.stages.teacher_layer import TeacherLayerSettings, TeacherLayerStage
from ecr_bench.stages.tokenizer import OwnTokenizer, TokenizerSettings, TokenizerStage
from ecr_bench.stages.train import Pooling, TrainSettings, TrainStage
from ecr_bench.stages.translations import TranslationsSettings, TranslationsStage
from ecr_bench.stages.unconditional import UnconditionalSettings, UnconditionalStage

OptimiserT = TypeVar("OptimiserT", PretrainConfig, FinetuneConfig)


@dataclass(frozen=True)
class CellStages:
    """Ids of a cell's stages."""

    train: str
    score: str
    anchors: str | None
    items: str
    base: str
    geometry: str | None
    """The stage that measures it beside accuracy; None where ``geometry.measure`` is off."""
    translations: str | None
    """What the teacher says of the corpus; None where nothing of the cell asks the teacher."""
    unconditional: str | None
    """How likely options are without their text; None where ``scoring.unconditional`` is off."""


@dataclass(frozen=True)
class Grid:
    """Lays stages of ``experiment`` out in ``stages`` (id -> stage), each once."""

    experiment: Experiment
    stages: dict[str, Stage[Any]]
    declared: Experiment
    """Before what is tuned for the arm, and what its cells set, was put in."""
    own_set: Mapping[str, Any]
    """What its cells set."""

    def cell(self, recipe: Recipe, arm: Arm, seed: int) -> CellStages:
        """All stages of an arm at a seed; ``experiment`` has the arm's settings already."""
        name = f"{arm.without_settings} seed {seed}" + "".join(f" {key}={value}" for key, value in arm.settings)
        train = self.train(recipe, arm.size, seed, f"train {name}")
        exp, inputs = self.experiment, self.stages[train].inputs
        scoring = ScoreSettings(
            tasks=exp.tasks,
            precisions=recipe.precisions or exp.precisions,
            batch_tokens=exp.scoring.batch_tokens,
            seen=exp.seen_languages,
        )
        reads = {"train": train, "items": inputs["items"]}
        score = self._add(Stage(ScoreStage, f"score {name}", scoring, reads, cost=20))
        anchors = inputs.get("anchors")
        geometry = self._geometry(recipe, train, score, name) if exp.geometry.measure else None
        translations = self._translations(recipe) if anchors or geometry else None
        alone = self._unconditional(train, score, name) if exp.scoring.unconditional else None
        return CellStages(train, score, anchors, inputs["items"], inputs["base"], geometry, translations, alone)

    def train(self, recipe: Recipe, size: str, seed: int, label: str) -> str:
        """The stage that trains an arm, and all it rests on."""
        exp = self.experiment
        recipe.check_devices(size, exp.sizes[size].devices)
        inputs = {"corpus": self._corpus(), "tokenizer": self._tokenizer(size), "items": self._items()}
        base = recipe.base(exp.control_tokens)
        inputs["base"] = self._plain_base(size, seed) if base is None else self._own_base(base, size, seed)
        inputs |= self._anchors_of(recipe, size, seed)
        if recipe.larger is not None:
            inputs |= self._larger(recipe.larger, size, seed)
        cost = self._cost(size, exp.finetune.steps * exp.finetune.batch_size * 2)
        return self._add(Stage(TrainStage, label, self._train_settings(recipe, size, seed), inputs, cost))

    def _reads(self, recipe: Recipe) -> dict[str, Any]:
        """What ``RecipeReads`` has of a recipe."""
        exp = self.experiment
        given: dict[str, Any] = {"recipe": RecipeSettings.of(recipe)}
        if recipe.uses_control_tokens:
            levels = exp.control_tokens.count if exp.anchors.assignment == "residual" else 1
            given["control_tokens"] = exp.control_tokens
            given["codes"] = CodeShape(k=exp.anchors.k, levels=max(1, levels))
        if recipe.uses_teacher:
            given["teacher"] = self._asked_teacher(recipe.name)
        given["sections"] = {name: getattr(exp, name).model_dump(mode="json") for name in recipe.sections}
        return given

    def _asked_teacher(self, who: str) -> TeacherSettings:
        teacher = self.experiment.teacher
        if teacher.name == "checkpoint" and "size" in teacher.options:
            raise UserError(f"teacher.options.size: {who} asks the teacher itself and needs 'path' instead")
        settings = TeacherSettings(name=teacher.name, options=teacher.options)
        if settings.chooses_layer:
            raise UserError(f"teacher.options.layer: {who} asks the teacher itself and needs the number of a layer")
        return settings

    def _train_settings(self, recipe: Recipe, size: str, seed: int) -> TrainSettings:
        exp, shape = self.experiment, self.experiment.sizes[size]
        given = self._reads(recipe)
        if recipe.trains_model:
            how = {name: getattr(shape, name) for name in ("dtype", "accumulate", "checkpointing", "devices")}
            given["fitting"] = Fitting(**how)
            kept = {name: getattr(exp.geometry, name) for name in Pooling.model_fields}
            given["pooling"] = Pooling(**kept)
        return TrainSettings(
            seed=seed,
            finetune=self._at_own_rate(exp.finetune, size),
            **given,
        )

    def _corpus(self) -> str:
        corpus = self.experiment.corpus
        settings = CorpusSettings.model_validate(corpus.model_dump())
        return self._add(Stage(CorpusStage, f"corpus {corpus.name}", settings, cost=10))

    def _tokenizer(self, size: str) -> str:
        """The shared BPE for models from scratch; a pretrained model's own, which needs the corpus where it is cut."""
        shape = self.experiment.sizes[size]
        if isinstance(shape, PretrainedSize):
            same = {name: getattr(shape, name) for name in OwnTokenizer.model_fields}
            settings, label = TokenizerSettings(own=OwnTokenizer(**same)), f"tokenizer of {shape.model}"
            cut = shape.vocabulary == "corpus"
            reads = {"corpus": self._corpus(), "items": self._items()} if cut else {}
            return self._add(Stage(TokenizerStage, label, settings, reads, cost=20 if cut else 5))
        settings = TokenizerSettings(trained=self.experiment.tokenizer)
        return self._add(Stage(TokenizerStage, "tokenizer", settings, {"corpus": self._corpus()}, cost=5))

    def _items(self) -> str:
        exp = self.experiment
        settings = ItemsSettings(
            tasks=exp.tasks,
            test_items=exp.scoring.items,
            train_items=exp.finetune.items,
            pairs=exp.scoring.pairs,
            seen=exp.seen_languages,
        )
        label = "items " + ", ".join(exp.tasks)
        return self._add(Stage(ItemsStage, label, settings, {"corpus": self._corpus()}, cost=15))

    def _plain_base(self, size: str, seed: int) -> str:
        reads = RecipeReads(recipe=RecipeSettings.of(self._healing(Recipe.of("finetune"))))
        return self._base(reads, {}, size, seed, "")

    def _healing(self, recipe: Recipe) -> Recipe:
        """What pre-trains a base: ``recipe``, and the distillation of ``pretrain.distill``."""
        larger, options = self.experiment.pretrain.distill, self.experiment.options
        if not larger:
            return recipe
        asked = {**options.get("distill", {}), "size": larger, **IN_PRETRAINING}
        return Recipe.of(recipe.method.name, ["distill"], {**recipe.to_json()["options"], "distill": asked})

    def _own_base(self, recipe: Recipe, size: str, seed: int) -> str:
        """The base that ``recipe`` pre-trains; where its tokens will stand in a prompt makes no difference to it."""
        if not self.experiment.pretrain.steps:
            remedy = ", or control_tokens.from: finetuning" if recipe.uses_control_tokens else ""
            raise UserError(f"pretrain.steps: {recipe.name} has a part in pre-training: needs 1 or more{remedy}")
        given = self._reads(self._healing(recipe))
        if recipe.method.distils_teacher:
            given["teacher"] = self._asked_teacher(recipe.name)
        reads = RecipeReads(**given)
        tokens = reads.control_tokens.model_copy(update={"placement": "prefix"})
        reads = reads.model_copy(update={"control_tokens": tokens})
        return self._base(reads, self._anchors_of(recipe, size, seed), size, seed, f" for {recipe.name}")

    def _base(self, reads: RecipeReads, anchors: dict[str, str], size: str, seed: int, whose: str) -> str:
        exp = self.experiment
        pretrain = self._at_own_rate(exp.pretrain, size)
        label = f"pre-train base {size}{whose}"
        if pretrain.seed_per_cell:
            pretrain = pretrain.model_copy(update={"seed": seed, "seed_per_cell": False})
            label += f" seed {seed}"
        shape = exp.sizes[size].model_copy(update={"learning_rate": None})
        if pretrain.steps:
            reads.recipe.recipe.check_devices(size, shape.devices)
        settings = BaseSettings(size=shape, pretrain=pretrain, reads=reads)
        inputs = {"corpus": self._corpus(), "tokenizer": self._tokenizer(size), **anchors, **self._start(size)}
        if pretrain.distill:
            inputs["larger"] = self._undistilled(pretrain.distill, size, seed)
            label += f" from the logits of {pretrain.distill}"
        rows = pretrain.steps * pretrain.batch_size
        return self._add(Stage(BaseStage, label, settings, inputs, self._cost(size, rows, reads.control_tokens.count)))

    def _start(self, size: str) -> dict[str, str]:
        """The stage that takes layers and tokens out of a pretrained model, by its role."""
        shape = self.experiment.sizes[size]
        if not isinstance(shape, PretrainedSize) or not shape.compressed:
            return {}
        inputs = {"tokenizer": self._tokenizer(size)}
        if shape.layer_choice == "greedy":
            inputs["corpus"] = self._corpus()
        return {"start": self._add(Stage(CompressStage, f"compress {size}", CompressSettings.of(shape), inputs, 60))}

    def _untrained(self, size: str, seed: int) -> str:
        """The plain model of a size as it was before anything here; from scratch there is none, but its base."""
        plain = self._as_plain(size)
        if not isinstance(plain.experiment.sizes[size], PretrainedSize):
            return plain._plain_base(size, seed)
        pretrain = plain.experiment.pretrain.model_copy(update={"steps": 0, "seed": 0, "seed_per_cell": False})
        whole = replace(plain, experiment=plain.experiment.model_copy(update={"pretrain": pretrain}))
        return whole._plain_base(size, seed)

    def _as_plain(self, size: str) -> Grid:
        """With what is tuned for the plain arm of a size that others learn from, and learns from none itself."""
        return replace(self, experiment=plain_settings(self.declared, self.own_set, size))

    def _undistilled(self, larger: str, size: str, seed: int) -> str:
        """The model whose logits are distilled into ``size``; UserError where the two cannot share a tokenizer."""
        if larger == size:
            raise UserError(f"pretrain.distill: {larger} cannot learn from itself: name a larger size")
        self._check_vocabularies(larger, size, "pretrain.distill")
        return self._untrained(larger, seed)

    def _check_vocabularies(self, larger: str, size: str, key: str) -> None:
        """UserError where the two cannot share a tokenizer. Those of two pretrained models are compared when they are
        read (runner/distillation_checks.py)."""
        theirs, ours = (_vocabulary(self.experiment.sizes[name]) for name in (larger, size))
        if theirs != ours:
            raise UserError(
                f"{key}: size {larger} has {theirs}; size {size}, which learns from its logits, has {ours}: they need "
                "one tokenizer"
            )

    def _anchors_of(self, recipe: Recipe, size: str, seed: int) -> dict[str, str]:
        """The stage of the anchors by its role, for a recipe that reads them."""
        method, count = recipe.method, self.experiment.control_tokens.count
        by_method = method.uses_anchors and (count > 0 or not method.uses_control_tokens)
        if not by_method and not any(part.uses_anchors for part in recipe.modifiers):
            return {}
        return {"anchors": self._anchors(recipe, size, seed)}

    def _anchors(self, recipe: Recipe, size: str, seed: int) -> str:
        exp = self.experiment
        teacher, own = self._teacher(recipe)
        label = f"anchors {exp.anchors.k} from {exp.teacher.name}"
        anchors = exp.anchors
        if anchors.seed_per_cell:
            anchors = anchors.model_copy(update={"seed": seed, "seed_per_cell": False})
            label += f" seed {seed}"
        settings = AnchorsSettings(
            teacher=teacher,
            rows=exp.teacher.rows,
            anchors=anchors,
            projection=exp.projection,
            count=max(1, exp.control_tokens.count),
        )
        inputs = {"corpus": self._corpus(), "tokenizer": self._tokenizer(size), **own}
        if PROJECTIONS.get(exp.projection.kind).reads_model:
            # a base that has read control tokens needs the projection first: it is fitted on one that has not
            inputs["base"] = self._plain_base(size, seed)
        return self._add(Stage(AnchorsStage, label, settings, inputs, cost=exp.teacher.rows / 500))

    def _translations(self, recipe: Recipe) -> str:
        exp = self.experiment
        teacher, own = self._teacher(recipe)
        settings = TranslationsSettings(teacher=teacher, rows=exp.teacher.rows, seed=exp.anchors.seed)
        inputs = {"corpus": self._corpus(), **own}
        label = f"translations through {teacher.name}"
        return self._add(Stage(TranslationsStage, label, settings, inputs, cost=exp.teacher.rows / 500))

    def _teacher(self, recipe: Recipe) -> tuple[TeacherSettings, dict[str, str]]:
        """The teacher, and the stage of the experiment's own plain model that teacher ``checkpoint`` names by
        ``size`` (seed 0)."""
        teacher = self.experiment.teacher
        options = dict(teacher.options)
        if teacher.name != "checkpoint" or "size" not in options:
            settings = TeacherSettings(name=teacher.name, options=options)
            return settings, self._layer(settings, {})
        size, state, sizes = options.pop("size"), options.pop("state", "finetuned"), self.experiment.sizes
        if size not in sizes:
            raise UserError(f"teacher.options.size: no size {size!r}: 'sizes' defines {', '.join(sizes)}")
        if state not in STAGES_OF:
            raise unknown("teacher.options.state", str(state), STAGES_OF)
        if state == "pretrained" and not isinstance(sizes[size], PretrainedSize):
            raise UserError(f"teacher.options.state: size {size} is from scratch, none has pretrained it: take 'base'")
        if state == "pretrained":
            own = self._untrained(size, 0)
        else:
            own = self._as_plain(size)._plain_base(size, 0) if state == "base" else self._plain(size, 0)
        settings = TeacherSettings(name=teacher.name, options=options, own=True)
        return settings, {"teacher": own, **self._layer(settings, {"teacher": own})}

    def _layer(self, teacher: TeacherSettings, own: dict[str, str]) -> dict[str, str]:
        """The stage that chooses the layer of a teacher, by its role, where its options leave that open."""
        if not teacher.chooses_layer:
            return {}
        settings, inputs = TeacherLayerSettings(teacher=teacher), {"corpus": self._corpus(), **own}
        return {"layer": self._add(Stage(TeacherLayerStage, f"layer of {teacher.name}", settings, inputs, cost=30))}

    def _plain(self, size: str, seed: int) -> str:
        """The plain arm that others learn from: trained, not scored."""
        return self._as_plain(size).train(Recipe.of("finetune"), size, seed, f"train finetune-{size} seed {seed}")

    def _larger(self, distill: Distill.Options, size: str, seed: int) -> dict[str, str]:
        """Stages that give a student its teacher: the larger plain cell, and its cache."""
        exp = self.experiment
        inputs: dict[str, str] = {}
        if distill.model:
            weight_files(teacher_folder(distill, {}), "options.distill.model")
        elif distill.size not in exp.sizes:
            raise UserError(f"options.distill.size: no size {distill.size!r}: 'sizes' defines {', '.join(exp.sizes)}")
        else:
            self._check_vocabularies(distill.size, size, "options.distill.size")
            inputs["larger"] = self._plain(distill.size, seed)
        if distill.cache_top_k is None:
            return inputs
        read = distill.model_copy(update={"size": "", "weight": 1.0, "divergence": "forward-kl", "beta": 0.5})
        window, whole = exp.sizes[size].max_length, exp.finetune.texts == "whole"
        settings = LogitsSettings(distill=read, seed=seed, items=exp.finetune.items, window=window, whole=whole)
        needs = {"corpus": self._corpus(), "tokenizer": self._tokenizer(size), "items": self._items(), **inputs}
        label = f"logits of {distill.model or 'finetune-' + distill.size} seed {seed}"
        return {**inputs, "logits": self._add(Stage(LogitsStage, label, settings, needs, cost=20))}

    def _geometry(self, recipe: Recipe, train: str, score: str, name: str) -> str:
        """The stage that measures a cell, and the teacher's view of the parallel rows for all cells."""
        exp, inputs = self.experiment, self.stages[train].inputs
        teacher, own = self._teacher(recipe)
        drawn = ParallelSettings(per_language=exp.geometry.per_language, teacher=teacher)
        reads = {"corpus": inputs["corpus"], **own}
        parallel = self._add(Stage(ParallelStage, f"parallel rows through {teacher.name}", drawn, reads, cost=5))
        settings = GeometrySettings(
            layer=exp.geometry.layer,
            precision=(*recipe.precisions, "fp32")[0],
            batch_tokens=exp.scoring.batch_tokens,
            sts_path=exp.geometry.sts_path,
            sts_revision=exp.geometry.sts_revision,
            sts_pairs=exp.geometry.sts_pairs,
        )
        needs = {role: inputs[role] for role in ("base", "items", "anchors") if role in inputs}
        needs |= {"parallel": parallel, "train": train, "score": score}
        return self._add(Stage(GeometryStage, f"geometry {name}", settings, needs, cost=3))

    def _unconditional(self, train: str, score: str, name: str) -> str:
        """The stage that scores the options of the items without their text."""
        settings = UnconditionalSettings(batch_tokens=self.experiment.scoring.batch_tokens)
        reads = {"train": train, "score": score, "items": self.stages[train].inputs["items"]}
        return self._add(Stage(UnconditionalStage, f"options alone {name}", settings, reads, cost=3))

    def _at_own_rate(self, stage: OptimiserT, size: str) -> OptimiserT:
        """``stage`` with the learning rate of ``size``, where it has one."""
        rate = self.experiment.sizes[size].learning_rate
        return stage.model_copy(update={"learning_rate": rate}) if rate else stage

    def _cost(self, size: str, rows: int, extra: int = 0) -> float:
        """Core-seconds at some 50 GFLOP/s: 6 FLOP per parameter and token, 20 and ``extra`` tokens a row."""
        shape = self.experiment.sizes[size]
        if isinstance(shape, PretrainedSize):
            return float(rows)  # unknown before it is read; only the order of execution depends on it
        body = shape.layers * (4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size)
        return 6 * body * rows * (20 + extra) / 50e9

    def _add(self, stage: Stage[Any]) -> str:
        return self.stages.setdefault(stage.id, stage).id


def plain_settings(declared: Experiment, own_set: Mapping[str, Any], size: str) -> Experiment:
    """The settings of the plain model of a ``size`` that cells with these settings of their own learn from."""
    spec = ArmSpec(method="finetune", set={key: value for key, value in own_set.items() if key != "pretrain.distill"})
    local = declared.tuned_for(spec, size)
    return local.model_copy(update={"pretrain": local.pretrain.model_copy(update={"distill": ""})})


def _vocabulary(size: SizeConfig | PretrainedSize) -> str:
    """What kind of tokenizer a size has."""
    if isinstance(size, SizeConfig):
        return "the tokenizer that is trained here"
    return "that of its model" + (", cut to the corpus" if size.vocabulary == "corpus" else "")
