"""The one stage that needs the teacher: anchors, projection and their held-out quality."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from ecr_bench.config import AnchorsConfig, ProjectionConfig, TeacherConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.anchors import fit_anchors
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.ecr.quality import measure
from ecr_bench.ecr.targets import save_targets
from ecr_bench.errors import UserError
from ecr_bench.io import write_json
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create
from ecr_bench.weight_files import read_folder

HELD_OUT = 2000
POOL = 4096


def balanced_sample(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most ``count`` rows, as evenly over languages as they allow; deterministic for ``seed``."""
    shuffled = rows.sample(frac=1.0, random_state=seed)
    rank = shuffled.groupby("lang").cumcount()
    return shuffled.iloc[rank.argsort(kind="stable")[:count]]


def with_own_model(config: TeacherConfig, inputs: dict[str, Path]) -> TeacherConfig:
    """Teacher ``checkpoint`` given by ``size``: the model is an input of the stage, not a path in its settings."""
    if "teacher" not in inputs:
        return config
    options = {key: value for key, value in config.options.items() if key not in ("size", "state")}
    return config.model_copy(update={"options": {**options, "path": str(inputs["teacher"] / "model")}})


def anchors_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Embed training texts once, derive anchors, fit the projection, measure it on held-out texts."""
    anchor_config = AnchorsConfig(**spec["anchors"])
    teacher_config = TeacherConfig(**spec["teacher"])
    projection_config = ProjectionConfig(**spec["projection"])
    levels = spec["count"] if anchor_config.assignment == "residual" else 1
    rows = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    train = balanced_sample(rows[rows.split == "train"], teacher_config.rows, anchor_config.seed)
    held_out = balanced_sample(rows[rows.split != "train"], HELD_OUT, anchor_config.seed)
    if held_out.empty:
        raise UserError("the corpus has no validation or test rows to measure the projection on")

    teacher = create(with_own_model(teacher_config, inputs))
    texts = train.text.tolist() + held_out.text.tolist()
    vectors = torch.from_numpy(embed_cached(teacher, texts, on_progress=lambda done: report(done, len(texts))).copy())
    embedded, embedded_held_out = vectors[: len(train)], vectors[len(train) :]
    anchors = fit_anchors(embedded, train.lang.tolist(), anchor_config, levels, teacher.fingerprint)
    anchors.save(folder / "anchors")

    tokenizer = load_tokenizer(inputs["tokenizer"] / "tokenizer")
    encoder = read_folder(AutoModelForCausalLM, inputs["base"] / "model") if "base" in inputs else None
    train_ids = tokenizer(train.text.tolist(), add_special_tokens=False)["input_ids"]
    held_out_ids = tokenizer(held_out.text.tolist(), add_special_tokens=False)["input_ids"]
    targets = anchors.centre(embedded, train.lang.tolist())
    projection = fit_projection(projection_config, train_ids, targets, len(tokenizer), encoder, anchor_config.seed)
    projection.save(folder / "projection")
    if encoder is not None:
        save_targets(folder / "targets.safetensors", train_ids, targets)

    quality = measure(
        projection,
        anchors,
        held_out_ids,
        anchors.centre(embedded_held_out, held_out.lang.tolist()),
        held_out.label.tolist(),
        held_out.lang.tolist(),
        spec["count"],
    )
    pool = anchors.assign(projection(train_ids[:POOL]), spec["count"])
    save_file({"pool": pool.contiguous()}, folder / "pool.safetensors")
    write_json(folder / "quality.json", asdict(quality))
    return {"teacher": teacher.fingerprint, "anchors": anchors.fingerprint, "quality": asdict(quality)}
