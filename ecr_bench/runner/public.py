"""A saved model on public benchmarks: load it, score it, say where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ecr_bench.content import content_of
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.device import device
from ecr_bench.divergence import check_finite
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.public import check_conditioning, public_tasks
from ecr_bench.evaluation.public_families import FAMILIES
from ecr_bench.evaluation.run import evaluate, refuse_empty_options
from ecr_bench.io import fingerprint
from ecr_bench.precision import PRECISIONS
from ecr_bench.precision.adapted import has_adapter, load_adapted
from ecr_bench.precision.dense import check_folder
from ecr_bench.runner.provenance import environment
from ecr_bench.weight_files import check_weights


@dataclass(frozen=True)
class Evaluation:
    """What ``ecr-bench eval`` was asked for."""

    model: Path
    names: tuple[str, ...]
    data_dir: Path | None = None
    precision: str = "fp32"
    limit: int | None = None
    ecr: bool = True
    seen: tuple[str, ...] = ()
    """Languages that had labelled training rows."""


@dataclass
class Prepared:
    """Model and tasks, loaded and checked."""

    asked: Evaluation
    lm: EcrLM
    tasks: list[Task]
    manager: TaskManager
    identity: str = field(init=False)
    """Hash of what decides the scores: model files, precision, conditioning, documents."""
    made_from: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.made_from = {
            "model": _contents(self.asked.model),
            "precision": self.asked.precision,
            "control_tokens": self.lm.conditioner.count if self.lm.conditioner else 0,
            "as_stock": self.lm.conditioner is None,
            "seen": sorted(self.asked.seen),
            "documents": {task.task_name: _documents(task) for task in self.tasks},
        }
        self.identity = fingerprint(self.made_from)


def prepare(asked: Evaluation) -> Prepared:
    """Load everything; UserError before anything is scored or written."""
    if not asked.names:
        raise UserError(f"name at least one public task: allowed are {', '.join(FAMILIES)}")
    PRECISIONS.get(asked.precision)
    _check_model(asked.model)
    tasks, manager = public_tasks(asked.names, asked.data_dir, asked.limit)
    lm = open_model(asked.model, asked.precision, asked.ecr)
    check_conditioning(tasks, lm.conditioner)
    refuse_empty_options(lm, tasks)
    return Prepared(asked, lm, tasks, manager)


def open_model(folder: Path, precision: str, ecr: bool = True) -> EcrLM:
    """A saved model as lm-eval scores it.

    With a ``conditioner/`` in ``folder`` prompts are built by it, as in training; ``ecr`` False, or none there,
    scores exactly as lm-eval's ``hf`` does. UserError when there is no model, tokenizer or language model in it.
    """
    _check_model(folder)
    where = device()
    tokenizer = _tokenizer(folder)
    there = (folder / "conditioner" / "conditioner.json").is_file()
    try:
        conditioner = Conditioner.load(folder / "conditioner", tokenizer) if ecr and there else None
        model = load_adapted(folder, where) if has_adapter(folder) else PRECISIONS.get(precision)(folder, where)
        check_finite(model, str(folder))
    except UserError:
        raise
    except Exception as error:  # transformers, safetensors and bitsandbytes each raise their own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{folder}: cannot load this model in {precision}: {reason:.200}") from error
    if conditioner is None:
        model.name_or_path = ""  # or EcrLM would find the conditioner beside the model by itself
    return EcrLM(model, tokenizer=tokenizer, conditioner=conditioner)


def score(prepared: Prepared, console: Console) -> pd.DataFrame:
    """One record per item (``evaluation.records``), with a progress bar over requests.

    UserError naming the task when an option leaves no room for control tokens in the model's window.
    """
    asked, lm = prepared.asked, prepared.lm
    source = lm.conditioner.source if lm.conditioner else None
    metadata = {
        "cell": asked.model.name,
        "arm": source.kind if source else "plain",
        "precision": asked.precision,
        "seed": 0,
        "seen_languages": list(asked.seen),
    }
    options = [FAMILIES.get(task.eval_docs[0]["task"]).options * len(task.eval_docs) for task in prepared.tasks]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    records: list[dict[str, Any]] = []
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=sum(options))
        lm.on_progress = lambda done: progress.advance(bar, done)
        for task in prepared.tasks:
            progress.update(bar, description=task.task_name)
            try:
                records += evaluate(lm, [task], metadata=metadata, task_manager=prepared.manager)
            except UserError as error:
                raise UserError(f"task {task.task_name}: {error}") from error
        lm.on_progress = None
    return pd.DataFrame(records)


def provenance_of(prepared: Prepared) -> dict[str, Any]:
    """Plain JSON: what was scored, on what, by which code."""
    asked = prepared.asked
    return {
        "identity": prepared.identity,
        "model_folder": str(asked.model),
        "data": str(asked.data_dir) if asked.data_dir else "hub",
        "limit": asked.limit,
        **prepared.made_from,
        **environment(),
    }


def _check_model(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"no such model folder: {folder}; give one with config.json, weights and tokenizer")
    if (folder / "probe.json").is_file():
        raise UserError(f"{folder}: a probe has no language model; public tasks need one")
    check_weights(check_folder(folder))


def _tokenizer(folder: Path) -> Any:
    try:
        tokenizer = load_tokenizer(folder)
    except Exception as error:  # transformers and tokenizers each raise their own kinds
        raise UserError(f"{folder}: no usable tokenizer: {' '.join(str(error).split()):.200}") from error
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has neither a BOS nor an EOS token to start a prompt with; set one")
    return tokenizer


def _contents(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint({str(path.relative_to(folder)): content_of(path) for path in files})


def _documents(task: Task) -> dict[str, Any]:
    docs: Any = task.eval_docs
    kept = docs.select_columns([*FAMILIES.get(docs[0]["task"]).fields, "cluster", "lang"])
    return {"items": len(docs), "sha256": fingerprint(kept.to_list())}
