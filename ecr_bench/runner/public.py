"""A saved model on public benchmarks: load it, score it, say where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from ecr_bench.evaluation.fitting import Examined, examine
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.public import check_conditioning, public_tasks
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS
from ecr_bench.evaluation.run import evaluate
from ecr_bench.io import fingerprint
from ecr_bench.methods.packaged import local_source
from ecr_bench.names import language_code
from ecr_bench.outside import is_packaged
from ecr_bench.precision import PRECISIONS
from ecr_bench.precision.adapted import has_adapter, load_adapted
from ecr_bench.precision.dense import check_folder
from ecr_bench.runner.provenance import environment
from ecr_bench.weight_files import check_weights


@dataclass(frozen=True)
class Evaluation:
    """What ``ecr-bench eval`` was asked for."""

    model: Path
    """A folder, or ``package:NAME`` (methods/packaged_models.py)."""
    names: tuple[str, ...]
    data_dir: Path | None = None
    precision: str = "fp32"
    limit: int | None = None
    ecr: bool = True
    seen: tuple[str, ...] = ()
    """Languages that had labelled training rows."""
    max_length: int | None = None
    """Window in tokens; None: what the model reads."""
    skip_long: bool = False
    """Leave out items that the window cannot hold instead of failing their task."""
    shots: int = 0
    """Solved examples in front of every item."""


@dataclass
class Prepared:
    """Model and tasks, loaded and looked at."""

    asked: Evaluation
    lm: EcrLM
    tasks: list[Examined]
    manager: TaskManager
    documents: dict[str, Any]
    """Task -> number and hash of all its documents."""
    identity: str = field(init=False)
    """Hash of what decides the scores: model files, precision, conditioning, window, documents."""
    made_from: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.made_from = {
            "model": _contents(self.asked.model),
            "precision": self.asked.precision,
            "control_tokens": self.lm.conditioner.count if self.lm.conditioner else 0,
            "window": self.lm.max_length,
            "skip_long": self.asked.skip_long,
            "num_fewshot": self.asked.shots,
            "seen": sorted(self.asked.seen),
            "documents": self.documents,
        }
        self.identity = fingerprint(self.made_from)


@dataclass(frozen=True)
class ScoredTask:
    """What became of one task."""

    examined: Examined
    records: list[dict[str, Any]]
    cut: int
    """Items whose context lost text on its left."""
    failure: str
    """Why it has no records; empty where it has."""

    @property
    def name(self) -> str:
        return self.examined.name


def prepare(asked: Evaluation) -> Prepared:
    """Load everything; UserError before anything is scored or written.

    A task whose items cannot all be scored is no error here: it is kept with the reason, and the others are scored.
    """
    if not asked.names:
        raise UserError(f"name at least one public task: allowed are {', '.join(PUBLIC_TASKS)}")
    PRECISIONS.get(asked.precision)
    for lang in asked.seen:
        try:
            language_code(lang)
        except ValueError as error:
            raise UserError(f"--seen: {error}") from None
    if is_packaged(str(asked.model)):
        asked = replace(asked, model=Path(local_source(str(asked.model))))
    _check_model(asked.model)
    tasks, manager = public_tasks(asked.names, asked.data_dir, asked.limit, asked.shots)
    lm = open_model(asked.model, asked.precision, asked.ecr, asked.max_length)
    check_conditioning(tasks, lm.conditioner)
    documents = {task.task_name: _documents(task) for task in tasks}
    # the same model with its control tokens leaves out the same items as without
    reserve = _control_tokens(asked.model) if asked.skip_long and not asked.ecr else 0
    examined = [examine(lm, task, asked.skip_long, reserve) for task in tasks]
    return Prepared(asked, lm, examined, manager, documents)


def open_model(folder: Path, precision: str, ecr: bool = True, max_length: int | None = None) -> EcrLM:
    """A saved model as lm-eval scores it, with a window of ``max_length`` tokens (None: what it reads).

    With a ``conditioner/`` in ``folder`` prompts are built by it, as in training; ``ecr`` False, or none there,
    scores exactly as lm-eval's ``hf`` does. UserError when there is no model, tokenizer or language model in it, or a
    shorter window.
    """
    _check_model(folder)
    where = device()
    tokenizer = _tokenizer(folder)
    there = _has_conditioner(folder)
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
    return EcrLM(model, tokenizer=tokenizer, conditioner=conditioner, max_length=max_length)


def score(prepared: Prepared, console: Console) -> list[ScoredTask]:
    """Score each task that can be, with a progress bar over requests. What fails in one leaves the others alone."""
    asked, lm = prepared.asked, prepared.lm
    source = lm.conditioner.source if lm.conditioner else None
    metadata = {
        "cell": asked.model.name,
        "arm": source.kind if source else "plain",
        "precision": asked.precision,
        "seed": 0,
        "seen_languages": list(asked.seen),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    result = []
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=sum(map(_requests, prepared.tasks)))
        lm.on_progress = lambda done: progress.advance(bar, done)
        for examined in prepared.tasks:
            progress.update(bar, description=examined.name)
            result.append(_score(prepared, examined, metadata))
        lm.on_progress = None
    return result


def _requests(examined: Examined) -> int:
    docs = examined.task.eval_docs
    return 0 if examined.failure else PUBLIC_TASKS.get(docs[0]["task"]).options * len(docs)


def _score(prepared: Prepared, examined: Examined, metadata: dict[str, Any]) -> ScoredTask:
    if examined.failure:
        return ScoredTask(examined, [], 0, examined.failure)
    try:
        records = evaluate(prepared.lm, [examined.task], metadata=metadata, task_manager=prepared.manager)
    except UserError as error:
        return ScoredTask(examined, [], 0, str(error))
    except Exception as error:  # whatever it is: the scores of other tasks must not be lost to it
        return ScoredTask(examined, [], 0, f"{type(error).__name__}: {' '.join(str(error).split()):.200}")
    return ScoredTask(examined, records, len(prepared.lm.last_cut), "")


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


def _has_conditioner(folder: Path) -> bool:
    return (folder / "conditioner" / "conditioner.json").is_file()


def _control_tokens(folder: Path) -> int:
    """How many the model in ``folder`` was trained with."""
    return Conditioner.load(folder / "conditioner", _tokenizer(folder)).count if _has_conditioner(folder) else 0


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
    kept = docs.select_columns([*PUBLIC_TASKS.get(docs[0]["task"]).fields, "cluster", "lang"])
    return {"items": len(docs), "sha256": fingerprint(kept.to_list())}
