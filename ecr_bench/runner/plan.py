"""From an experiment to the stages it needs, each with the hash of what can change its result.

corpus -> tokenizer, items -> base models, anchors -> trained cells -> scores. Stages that several
cells share appear once, so they are computed once, within an experiment and across experiments that
use the same ``--out``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecr_bench.arm import Arm
from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.weights import weights_fingerprint
from ecr_bench.plugins import code_of
from ecr_bench.runner.identity import code_and_packages, content_of
from ecr_bench.sizes import PretrainedSize, Size, SizeConfig
from ecr_bench.teachers.registry import TEACHERS


@dataclass(frozen=True)
class Stage:
    """One unit of work: runs once, in one process, from the folders of its inputs to its own."""

    kind: str
    label: str
    """What a person reads while it runs."""
    spec: dict[str, Any]
    """Plain JSON: every setting the stage reads."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Role -> stage id."""
    cost: float = 1.0
    """Rough core-seconds, for the order of execution only."""

    @property
    def id(self) -> str:
        return f"{self.kind}/{fingerprint([self.kind, code_and_packages(self.kind), self.spec, self.inputs])}"


def short_settings(arm: Arm) -> list[str]:
    """``control_tokens.count: 8`` as ``count=8``; in full for pretrain, whose keys finetune has as well."""
    short = {key: key if key.startswith("pretrain.") else key.split(".")[-1] for key, _ in arm.settings}
    return [f"{short[key]}={value}" for key, value in arm.settings]


@dataclass(frozen=True)
class Cell:
    """A trained and scored arm: method x size x seed, with its stage ids."""

    arm: Arm
    seed: int
    train: str
    score: str
    anchors: str | None
    items: str
    base: str
    geometry: str | None = None
    """The stage that measures it beside accuracy; None where ``geometry.measure`` is off."""

    @property
    def label(self) -> str:
        """Readable and unique within an experiment: ``ecr-1x-s0``, with overrides appended."""
        extra = "".join(f"-{short}" for short in short_settings(self.arm))
        return f"{self.arm.without_settings}-s{self.seed}{extra}"


@dataclass(frozen=True)
class Plan:
    experiment: Experiment
    stages: dict[str, Stage]
    cells: list[Cell]


def make_plan(experiment: Experiment) -> Plan:
    """Check names against the registries and lay out stages and cells."""
    stages: dict[str, Stage] = {}
    cells: list[Cell] = []
    for group in experiment.cells:
        local = experiment.with_overrides(group.set, f"{experiment.name}: cells.set") if group.set else experiment
        recipe = Recipe.of_group(group, local.options)
        _check_names(local, recipe)
        settings = recipe.settings(group, experiment.options)
        for size in group.sizes:
            for seed in group.seeds:
                cell = _cell(local, recipe, recipe.arm(size, settings), seed, stages)
                cells.append(_measured(local, recipe, cell, stages) if local.geometry.measure else cell)
    labels = [cell.label for cell in cells]
    if duplicates := {label for label in labels if labels.count(label) > 1}:
        raise UserError(f"{experiment.name}: cells named twice: {', '.join(sorted(duplicates))}")
    return Plan(experiment, stages, cells)


def _check_names(experiment: Experiment, recipe: Recipe) -> None:
    recipe.check(experiment)
    for registry, name in ((CORPORA, experiment.corpus.name), (TEACHERS, experiment.teacher.name)):
        registry.get(name)
    for task in experiment.tasks:
        TASKS.get(task)
    if (k := experiment.anchors.k) > (rows := experiment.teacher.rows):
        raise UserError(f"anchors.k: {k} anchors cannot be derived from teacher.rows = {rows} texts: lower the one")
    if (named := experiment.corpus.languages) and (odd := set(experiment.seen_languages) - set(named)):
        raise UserError(f"seen_languages: {', '.join(sorted(odd))} not in corpus.languages: {', '.join(named)}")


def _add(stages: dict[str, Stage], stage: Stage) -> str:
    stages[stage.id] = stage
    return stage.id


def _cell(exp: Experiment, recipe: Recipe, arm: Arm, seed: int, stages: dict[str, Stage]) -> Cell:
    size = arm.size
    dump = exp.model_dump(mode="json")
    own_rate = dump["sizes"][size].pop("learning_rate")
    for stage in ("pretrain", "finetune") if own_rate else ():
        dump[stage]["learning_rate"] = own_rate
    corpus_spec = {"corpus": dump["corpus"], **code_of(CORPORA.get(exp.corpus.name))}
    if isinstance(path := exp.corpus.options.get("path"), str):
        corpus_spec["content"] = content_of(Path(path).expanduser())
    corpus = _add(stages, Stage("corpus", f"corpus {exp.corpus.name}", corpus_spec, cost=10))
    tokenizer = _add(stages, _tokenizer_stage(exp.sizes[size], dump, corpus))
    items_spec = {
        "tasks": dump["tasks"],
        "scoring": {"items": exp.scoring.items, "pairs": dump["scoring"]["pairs"]},
        "train_items": exp.finetune.items,
        "seen": dump["seen_languages"],
        **{f"{task} {key}": code for task in exp.tasks for key, code in code_of(TASKS.get(task)).items()},
    }
    items = _add(stages, Stage("items", "items " + ", ".join(exp.tasks), items_spec, {"corpus": corpus}, cost=15))
    pretrain, per_cell = dump["pretrain"], exp.pretrain.seed_per_cell
    for section in (pretrain, dump["anchors"]):
        if section.pop("seed_per_cell"):
            section["seed"] = seed
    base_spec = {"size": dump["sizes"][size], "pretrain": pretrain, **_model_content(exp.sizes[size])}
    base = _add(
        stages,
        Stage(
            "base",
            f"pre-train base {size}" + (f" seed {seed}" if per_cell else ""),
            base_spec,
            {"corpus": corpus, "tokenizer": tokenizer},
            cost=_cost(exp, size, exp.pretrain.steps * exp.pretrain.batch_size),
        ),
    )
    name = f"{arm.without_settings} seed {seed}" + "".join(f" {key}={value}" for key, value in arm.settings)
    anchors = None
    if recipe.uses_anchors and (exp.control_tokens.count or not recipe.uses_control_tokens):
        anchors = _add(stages, _anchor_stage(exp, dump, corpus, tokenizer, base, _own_teacher(exp, recipe, stages)))
    larger = _larger(exp, recipe.larger, size, seed, items, corpus, tokenizer, stages) if recipe.larger else {}
    train = Stage(
        "train",
        f"train {name}",
        _train_spec(exp, dump, recipe, size, seed),
        {
            "corpus": corpus,
            "tokenizer": tokenizer,
            "items": items,
            "base": base,
            **({"anchors": anchors} if anchors else {}),
            **larger,
        },
        cost=_cost(exp, size, exp.finetune.steps * exp.finetune.batch_size * 2),
    )
    train_id = _add(stages, train)
    score = _add(
        stages,
        Stage(
            "score",
            f"score {name}",
            {
                "precisions": list(recipe.precisions) or dump["precisions"],
                "batch_tokens": exp.scoring.batch_tokens,
                "seen": dump["seen_languages"],
            },
            {"train": train_id, "items": items},
            cost=20,
        ),
    )
    return Cell(arm, seed, train_id, score, anchors, items, base)


def _measured(exp: Experiment, recipe: Recipe, cell: Cell, stages: dict[str, Stage]) -> Cell:
    """The cell with the stage that measures it, and the teacher's view of the parallel rows for all cells."""
    dump = exp.model_dump(mode="json")
    train = stages[cell.train]
    corpus = train.inputs["corpus"]
    teacher = {"name": exp.teacher.name, "options": dump["teacher"]["options"]}
    parallel_spec = {"per_language": exp.geometry.per_language, "teacher": teacher}
    parallel = _add(
        stages,
        Stage(
            "parallel",
            f"parallel rows through {exp.teacher.name}",
            {**parallel_spec, **code_of(TEACHERS.get(exp.teacher.name))},
            {"corpus": corpus, **_own_teacher(exp, recipe, stages)},
            cost=5,
        ),
    )
    geometry = Stage(
        "geometry",
        f"geometry {train.label.removeprefix('train ')}",
        {
            "layer": exp.geometry.layer,
            "precision": (*recipe.precisions, "fp32")[0],
            "batch_tokens": exp.scoring.batch_tokens,
            "sts": {
                "path": exp.geometry.sts_path,
                "pairs": exp.geometry.sts_pairs,
                "content": content_of(Path(exp.geometry.sts_path).expanduser()) if exp.geometry.sts_path else "",
            },
        },
        {
            "parallel": parallel,
            "train": cell.train,
            "base": cell.base,
            "items": cell.items,
            "score": cell.score,
            **({"anchors": cell.anchors} if cell.anchors else {}),
        },
        cost=3,
    )
    return replace(cell, geometry=_add(stages, geometry))


def _tokenizer_stage(size: Size, dump: dict[str, Any], corpus: str) -> Stage:
    """The shared BPE for models from scratch; a pretrained model's own, which needs no corpus."""
    if isinstance(size, SizeConfig):
        return Stage("tokenizer", "tokenizer", {"tokenizer": dump["tokenizer"]}, {"corpus": corpus}, cost=5)
    spec = {"model": size.model, "max_length": size.max_length, **_model_content(size)}
    return Stage("tokenizer", f"tokenizer of {size.model}", spec, cost=5)


def _model_content(size: Size) -> dict[str, Any]:
    """Identity of a model folder of the user's, which may change under its name; nothing for other sizes."""
    folder = Path(size.model).expanduser() if isinstance(size, PretrainedSize) else None
    return {"content": content_of(folder)} if folder and folder.is_dir() else {}


def _train_spec(exp: Experiment, dump: dict[str, Any], recipe: Recipe, size: str, seed: int) -> dict[str, Any]:
    """Only what this recipe reads, so that an anchor setting does not retrain the plain arms."""
    code = {f"{part.name} {key}": value for part in recipe.parts for key, value in code_of(type(part)).items()}
    spec = {"recipe": recipe.to_json(), "seed": seed, "finetune": dump["finetune"], **code}
    if recipe.uses_control_tokens:
        spec["control_tokens"] = dump["control_tokens"]
        spec["anchors"] = {"k": exp.anchors.k, "assignment": exp.anchors.assignment}
    if recipe.uses_teacher:
        spec["teacher"] = dump["teacher"]
    if recipe.trains_model:
        spec["fitting"] = {name: dump["sizes"][size][name] for name in ("dtype", "accumulate", "checkpointing")}
        spec["geometry"] = {name: dump["geometry"][name] for name in ("layer", "per_language", "snapshots")}
    spec.update({name: dump[name] for name in recipe.sections})
    if recipe.larger and recipe.larger.model:
        spec["larger"] = weights_fingerprint(Path(recipe.larger.model))
    return spec


def _larger(
    exp: Experiment, distill: Distill.Options, size: str, seed: int, items: str, corpus: str, tokenizer: str,
    stages: dict[str, Stage],
) -> dict[str, str]:  # fmt: skip
    """Stages that give a student its teacher: the larger plain cell, trained but not scored, and its cache."""
    inputs: dict[str, str] = {}
    spec: dict[str, Any] = {"seed": seed, "items": exp.finetune.items, "window": exp.sizes[size].max_length}
    if distill.model:
        spec["larger"] = weights_fingerprint(Path(distill.model))
    else:
        if distill.size not in exp.sizes:
            raise UserError(f"options.distill.size: no size {distill.size!r}: 'sizes' defines {', '.join(exp.sizes)}")
        needed: dict[str, Stage] = {}
        plain = Recipe.of("finetune")
        inputs["larger"] = _cell(exp, plain, plain.arm(distill.size), seed, needed).train
        for stage in needed.values():
            if stage.kind != "score":
                stages.setdefault(stage.id, stage)
    if distill.cache_top_k is None:
        return inputs
    settings = distill.model_dump(mode="json", include={"model", "temperature", "cache_top_k", "tail"})
    label = f"logits of {distill.model or 'finetune-' + distill.size} seed {seed}"
    needs = {"corpus": corpus, "tokenizer": tokenizer, "items": items, **inputs}
    return {**inputs, "logits": _add(stages, Stage("logits", label, {**spec, "distill": settings}, needs, cost=20))}


def _own_teacher(exp: Experiment, recipe: Recipe, stages: dict[str, Stage]) -> dict[str, str]:
    """The stage of the experiment's own plain model that teacher ``checkpoint`` names by ``size``, seed 0."""
    options = exp.teacher.options
    if exp.teacher.name != "checkpoint" or "size" not in options:
        return {}
    if options["size"] not in exp.sizes:
        raise UserError(f"teacher.options.size: no size {options['size']!r}: 'sizes' defines {', '.join(exp.sizes)}")
    state = options.get("state", "finetuned")
    if recipe.uses_teacher:
        raise UserError("teacher.options.size: a method that asks the teacher at test time needs 'path' instead")
    needed: dict[str, Stage] = {}
    plain = Recipe.of("finetune")
    cell = _cell(exp, plain, plain.arm(options["size"]), 0, needed)
    for stage in needed.values():
        if stage.kind != "score" and (stage.kind != "train" or state == "finetuned"):
            stages.setdefault(stage.id, stage)
    return {"teacher": cell.train if state == "finetuned" else cell.base}


def _anchor_stage(
    exp: Experiment, dump: dict[str, Any], corpus: str, tokenizer: str, base: str, own: dict[str, str]
) -> Stage:
    inputs = {"corpus": corpus, "tokenizer": tokenizer, **own}
    if PROJECTIONS.get(exp.projection.kind).reads_model:
        inputs["base"] = base
    spec = {name: dump[name] for name in ("teacher", "anchors", "projection")} | code_of(TEACHERS.get(exp.teacher.name))
    spec["count"] = max(1, exp.control_tokens.count)
    label = f"anchors {exp.anchors.k} from {exp.teacher.name}"
    label += f" seed {dump['anchors']['seed']}" if exp.anchors.seed_per_cell else ""
    return Stage("anchors", label, spec, inputs, cost=exp.teacher.rows / 500)


def _cost(exp: Experiment, size: str, rows: int) -> float:
    """Core-seconds at some 50 GFLOP/s: 6 FLOP per parameter and token, 20 tokens a row."""
    shape = exp.sizes[size]
    if isinstance(shape, PretrainedSize):
        return float(rows)  # unknown before it is read; only the order of execution depends on it
    body = shape.layers * (4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size)
    return 6 * body * rows * 20 / 50e9
