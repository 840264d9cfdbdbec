"""Train one arm, then score it at each precision."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.config import ControlTokensConfig, FinetuneConfig, TeacherConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.data.cutting import TextRow, cut_texts
from ecr_bench.data.encode import Example, encode_items, encode_texts, refuse_empty_options, refuse_too_long
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.parallel import parallel_rows
from ecr_bench.data.tokenizer import context_window, load_tokenizer
from ecr_bench.divergence import KEY, DivergedError
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import load_projection
from ecr_bench.evaluation.pooled import pooled_states
from ecr_bench.items.files import read_items
from ecr_bench.methods.distill import Distill, teacher_folder
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import count_parameters, fit_to_machine
from ecr_bench.methods.module import ArmModule
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.teacher_logits import FILE, build_cache, cache_identity, load_teacher, plain_rows
from ecr_bench.runner.anchoring import balanced_sample
from ecr_bench.runner.device import device
from ecr_bench.runner.memory import peak_memory, reset_peak_memory
from ecr_bench.runner.training import Snapshots, fit
from ecr_bench.sizes import Fitting
from ecr_bench.types import Item
from ecr_bench.weight_files import read_folder


def _ingredients(spec: dict[str, Any], inputs: dict[str, Path], languages: tuple[str, ...]) -> Ingredients:
    control = ControlTokensConfig(**spec.get("control_tokens", {"count": 0}))
    shape = spec.get("anchors", {"k": 2, "assignment": "nearest"})
    levels = control.count if shape["assignment"] == "residual" else 1
    given: dict[str, Any] = {}
    if "anchors" in inputs:
        folder = inputs["anchors"]
        given = {
            "anchors": Anchors.load(folder / "anchors"),
            "projection": load_projection(folder / "projection"),
            "pool": load_file(folder / "pool.safetensors")["pool"],
        }
    if "teacher" in spec:
        given["teacher"] = TeacherConfig(**spec["teacher"])
    tokenizer = load_tokenizer(inputs["tokenizer"] / "tokenizer")
    width = AutoConfig.from_pretrained(inputs["base"] / "model").hidden_size
    return Ingredients(tokenizer, control, languages, shape["k"], max(1, levels), width, **given)


def _training_rows(
    tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, folder: Path, count: int, seed: int
) -> tuple[list[Item], list[TextRow]]:
    """Labelled items and unlabelled texts of a cell, in the order of its mixture."""
    unlabelled = balanced_sample(rows[rows.split == "train"], count, seed)
    texts = cut_texts(tokenizer, list(zip(unlabelled.text, unlabelled.lang, strict=True)), seed)
    return read_items(folder / "train"), texts


def logits_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Ask the larger model once for the training rows of a cell; what is kept is checked when it is read."""
    settings, seed = Distill.Options(**spec["distill"]), spec["seed"]
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    tokenizer = load_tokenizer(inputs["tokenizer"] / "tokenizer")
    items, texts = _training_rows(tokenizer, rows, inputs["items"], spec["items"], seed)
    plain = plain_rows(tokenizer, items, texts, spec["window"])
    source = teacher_folder(settings, inputs)
    teacher = load_teacher(source, tokenizer, spec["window"])
    cache = build_cache(teacher, plain, settings, len(tokenizer), seed, report)
    cache.save(folder, cache_identity(source, plain, settings, seed))
    return {"positions": len(cache.tensors["labels"]), "bytes": (folder / FILE).stat().st_size}


def train_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Fine-tune the shared base model as this arm; save model, tokenizer and conditioner together."""
    finetune, seed = FinetuneConfig(**spec["finetune"]), spec["seed"]
    recipe = Recipe.from_json(spec["recipe"])
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    given = _ingredients(spec, inputs, tuple(sorted(rows.lang.unique())))
    if not recipe.trains_model:
        from ecr_bench.runner.probing import train_probe

        return {"method": recipe.name, "seed": seed, **train_probe(given, inputs["items"], folder)}
    refuse_empty_options(given.tokenizer, read_items(inputs["items"] / "test"))  # before anything is trained
    conditioner = recipe.conditioner(given)
    model: PreTrainedModel = read_folder(AutoModelForCausalLM, inputs["base"] / "model", dtype=torch.float32)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, given.control_tokens.init_std, seed)
    window = context_window(model.config, given.tokenizer)
    refuse_too_long(conditioner, read_items(inputs["items"] / "test"), window)
    parameters = count_parameters(model)  # before quantisation, which packs several into one number
    if recipe.base_precision is not None:
        from ecr_bench.precision.adapted import quantise_into

        model = quantise_into(folder / "model", model, recipe.base_precision, device())

    fitting = Fitting(**spec["fitting"])
    fit_to_machine(model, fitting)
    items, texts = _training_rows(given.tokenizer, rows, inputs["items"], finetune.items, seed)
    module = recipe.module(model, finetune)
    settings = {name: spec[name] for name in recipe.sections}
    module.prepare(Training(given, conditioner, items, texts, window, seed, settings, inputs))

    def encode(arm: Conditioner) -> tuple[list[Example], list[Example]]:
        return encode_items(arm, items, window), encode_texts(arm, texts, window)

    mixture = Mixture(*encode(conditioner), finetune.text_share)
    held_out = read_items(inputs["items"] / "validation")

    def encode_held_out(arm: Conditioner) -> list[Example]:
        return encode_items(arm, held_out, window)

    data = ExamplesDataModule(
        mixture,
        encode_held_out(conditioner),
        given.tokenizer.pad_token_id,
        finetune.batch_size,
        finetune.steps,
        seed,
        module.variation(lambda arm: list(chain(*encode(arm)))),
        module.validation_variation(encode_held_out),
    )
    snapshots = _snapshots(spec["geometry"], rows, module, conditioner, finetune.steps)
    stats = fit(module, data, finetune, seed, folder, report, [snapshots], fitting.dtype)
    snapshots.save(folder)
    module.save_model(folder / "model")
    given.tokenizer.save_pretrained(folder / "model")
    conditioner.save(folder / "model" / "conditioner")
    source = conditioner.source
    return {
        "method": recipe.name,
        "seed": seed,
        "parameters": parameters + module.adapter_parameters,
        "side_parameters": source.side_parameters if source else 0,
        "side_bytes": source.side_bytes if source else 0,
        "deployable": source.deployable if source else True,
        "extra_tokens": conditioner.count,
        **stats,
    }


def _snapshots(
    geometry: dict[str, Any], rows: pd.DataFrame, module: ArmModule, conditioner: Conditioner, steps: int
) -> Snapshots:
    """Pooled states of held-out translation pairs at several steps, for drift and manifold curves."""
    held_out = parallel_rows(rows, geometry["per_language"])
    texts, langs = held_out["text"].tolist(), held_out["lang"].tolist()
    times = geometry["snapshots"] if texts else 0
    return Snapshots(lambda: pooled_states(module.model, conditioner, texts, langs, geometry["layer"]), steps, times)


def score_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Score a trained cell on all test items at each precision; per-item records as Parquet.

    A precision at which log-likelihoods are not finite has no records; the result says why. It also says of how many
    items of a task the context was cut on its left to fit the window.
    """
    from ecr_bench.evaluation.records import SCHEMA, write_records
    from ecr_bench.evaluation.run import evaluate, load_item_tasks
    from ecr_bench.runner.scorers import disk_bytes, open_scorer

    model_folder = inputs["train"] / "model"
    names = sorted(path.stem for path in (inputs["items"] / "test").glob("ecr_*.jsonl"))
    manager, tasks = load_item_tasks(inputs["items"] / "test", names)
    # names of cell and arm belong to an experiment, not to the stage: `collect` fills them in
    metadata = {"cell": "", "arm": "", "seed": 0, "seen_languages": spec["seen"]}
    records: list[dict[str, Any]] = []
    costs: dict[str, Any] = {}
    cut: Counter[str] = Counter()
    for index, precision in enumerate(spec["precisions"]):
        report(index, len(spec["precisions"]))
        reset_peak_memory()
        scorer = open_scorer(model_folder, precision, device(), spec["batch_tokens"])
        started, failed = time.perf_counter(), {}
        try:
            scored = evaluate(scorer.lm, tasks, metadata={**metadata, "precision": precision}, task_manager=manager)
        except DivergedError as error:
            scored, failed = [], {KEY: str(error)}
        seconds = time.perf_counter() - started
        records += scored
        cut = Counter(name for name, _ in scorer.lm.last_cut)  # the same at every precision
        costs[precision] = {
            **failed,
            "bytes": scorer.bytes,
            "disk_bytes": disk_bytes(model_folder, scorer.bytes),
            "scoring_memory": peak_memory(),
            "ms_per_item": round(1000 * seconds / len(scored), 3) if scored else None,
        }
    write_records(folder / "records.parquet", pd.DataFrame(records, columns=SCHEMA.names))
    return {"items": sum(len(task.eval_docs) for task in tasks), "cut": dict(cut), "precisions": costs}
