"""Train one arm, then score it at each precision."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ecr_bench.config import ControlTokensConfig, FinetuneConfig, TeacherConfig, shipped
from ecr_bench.corpora.base import Corpus
from ecr_bench.data.encode import cut_texts, encode_items, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.projection import load_projection
from ecr_bench.items.files import read_items
from ecr_bench.methods.base import Ingredients
from ecr_bench.methods.models import count_parameters
from ecr_bench.methods.registry import METHODS
from ecr_bench.runner.anchoring import balanced_sample
from ecr_bench.runner.training import fit


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
    return Ingredients(tokenizer, control, languages, shape["k"], max(1, levels), **given)


def train_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Fine-tune the shared base model as this arm; save model, tokenizer and conditioner together."""
    finetune, seed = FinetuneConfig(**spec["finetune"]), spec["seed"]
    method = METHODS.get(spec["method"])
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    given = _ingredients(spec, inputs, tuple(sorted(rows.lang.unique())))
    conditioner = method.conditioner(given)
    model = AutoModelForCausalLM.from_pretrained(inputs["base"] / "model")
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, given.control_tokens.init_std, seed)
    window = model.config.max_position_embeddings

    items = read_items(inputs["items"] / "train")
    unlabelled = balanced_sample(rows[rows.split == "train"], finetune.items, seed)
    texts = cut_texts(list(zip(unlabelled.text, unlabelled.lang, strict=True)), seed)
    mixture = Mixture(
        encode_items(conditioner, items, window), encode_texts(conditioner, texts, window), finetune.text_share
    )
    validation = encode_items(conditioner, read_items(inputs["items"] / "validation"), window)
    data = ExamplesDataModule(
        mixture, validation, given.tokenizer.pad_token_id, finetune.batch_size, finetune.steps, seed
    )
    stats = fit(method(model, finetune), data, finetune, seed, folder, report)
    model.save_pretrained(folder / "model")
    given.tokenizer.save_pretrained(folder / "model")
    conditioner.save(folder / "model" / "conditioner")
    source = conditioner.source
    return {
        "method": spec["method"],
        "seed": seed,
        "parameters": count_parameters(model),
        "side_parameters": source.side_parameters if source else 0,
        "side_bytes": source.side_bytes if source else 0,
        "deployable": source.deployable if source else True,
        "extra_tokens": conditioner.count,
        **stats,
    }


def score_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Score a trained cell on all test items at each precision; per-item records as Parquet."""
    from lm_eval.tasks import TaskManager

    from ecr_bench.evaluation.lm import EcrLM
    from ecr_bench.evaluation.records import write_records
    from ecr_bench.evaluation.run import evaluate, load_tasks
    from ecr_bench.precision.measure import describe
    from ecr_bench.precision import PRECISIONS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model_folder = inputs["train"] / "model"
    tokenizer = load_tokenizer(model_folder)
    names = sorted(path.stem for path in (inputs["items"] / "test").glob("ecr_*.jsonl"))
    manager = TaskManager(
        include_path=str(shipped("tasks")), include_defaults=False, metadata={"items": str(inputs["items"] / "test")}
    )
    tasks = load_tasks(names, manager)
    # names of cell, arm and size belong to an experiment, not to the stage: `collect` fills them in
    metadata = {"cell": "", "method": "", "size": "", "seed": 0, "seen_languages": spec["seen"]}
    records: list[dict[str, Any]] = []
    costs: dict[str, Any] = {}
    for index, precision in enumerate(spec["precisions"]):
        report(index, len(spec["precisions"]))
        model = PRECISIONS.get(precision)(model_folder, device)
        lm = EcrLM(
            model,
            tokenizer=tokenizer,
            conditioner=model_folder / "conditioner",
            batch_tokens=spec["batch_tokens"],
        )
        started = time.perf_counter()
        scored = evaluate(lm, tasks, metadata={**metadata, "precision": precision}, task_manager=manager)
        seconds = time.perf_counter() - started
        records += scored
        costs[precision] = {
            "bytes": describe(model)["bytes"],
            "ms_per_item": round(1000 * seconds / max(1, len(scored)), 3),
        }
    write_records(folder / "records.parquet", pd.DataFrame(records))
    return {"items": len(records) // len(spec["precisions"]), "precisions": costs}
