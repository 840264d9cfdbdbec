"""One model on lm-eval tasks -> per-item records."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.api.task
import lm_eval.evaluator
import lm_eval.models.huggingface
import lm_eval.utils
import numpy as np
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from ecr_bench.divergence import DivergedError
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.probe import ProbeLM
from ecr_bench.fast.templates import compiled_once
from ecr_bench.items.lmeval import task_specs
from ecr_bench.yaml_files import shipped


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` inside. AttributeError where lm-eval has no such name any more."""
    before = getattr(owner, name)
    own = name in vars(owner)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:  # a method: found on the class again
            delattr(owner, name)


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Inside, lm-eval collects no environment (subprocesses; our provenance records more), compiles each
    prompt template once (``fast.templates``), and, unless ``verbose``, prints nothing below an error.
    """
    log = logging.getLogger("lm_eval")
    level = log.level
    with contextlib.ExitStack() as stack:
        for name in ("add_env_info", "get_git_commit_hash"):
            stack.enter_context(replaced(lm_eval.evaluator, name, lambda *_: None))
        compiled = compiled_once(lm_eval.utils.env.from_string)
        stack.enter_context(replaced(lm_eval.utils.env, "from_string", compiled))
        if not verbose:
            log.setLevel(logging.ERROR)
            stack.callback(log.setLevel, level)
            for module in (lm_eval.api.task, lm_eval.models.huggingface):
                stack.enter_context(replaced(module, "tqdm", functools.partial(module.tqdm, disable=True)))
        yield


def load_tasks(names: Sequence[str | dict[str, Any]], manager: TaskManager) -> list[Task]:
    """Load tasks and groups by name or configuration (``items.lmeval.task_specs``), flat, so that several models
    can be scored on them without reloading.

    UserError for a name the manager does not know.
    """
    for name in names:
        if isinstance(name, str) and name not in manager.all_tasks:
            known = ", ".join(sorted(manager.all_tasks)[:20])
            raise UserError(f"unknown task {name!r}: allowed are {known}{', …' if len(manager.all_tasks) > 20 else ''}")
    with quiet():
        return list(manager.load(list(names))["tasks"].values())


def load_item_tasks(items: Path, names: Sequence[str]) -> tuple[TaskManager, list[Task]]:
    """Our own tasks ``names`` on the items in the folder ``items``, and the manager that knows them."""
    metadata = {"items": str(items)}
    manager = TaskManager(include_path=str(shipped("tasks")), include_defaults=False, metadata=metadata)
    return manager, load_tasks(task_specs(names, shipped("tasks")), manager)


def by_kind(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """Name of a single task (``slot``) -> its languages. What is scored in one call shares batches, and batches move
    the last digits: so a cell is scored kind by kind, and so is whoever wants the same digits."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(str(task.eval_docs[0]["task"]), []).append(task)
    return groups


def evaluate(
    lm: EcrLM | ProbeLM,
    task_names: Sequence[str | Task],
    *,
    metadata: Mapping[str, Any],
    task_manager: TaskManager | None = None,
    verbose: bool = False,
) -> list[dict[str, Any]]:
    """Score ``lm`` on multiple-choice tasks through ``lm_eval.simple_evaluate``.

    Args:
        lm: the model; one EcrLM per model and precision.
        task_names: names (groups, too), or Task objects from ``load_tasks``: lm-eval builds new requests
            for each call, so nothing carries over from one model to the next.
        metadata: ``cell``, ``arm``, ``precision``, ``seed`` and ``seen_languages``.
        task_manager: where names are looked up; needed for names.

    Returns one record per item (``records.SCHEMA``). An item is 'seen' when both its languages are.
    Global random states are left alone. UserError for unknown and for not multiple-choice tasks; DivergedError where a
    log-likelihood is not finite.
    """
    named = [task for task in task_names if isinstance(task, str)]
    tasks = [task for task in task_names if not isinstance(task, str)]
    if named:
        tasks = load_tasks(named, task_manager or TaskManager()) + tasks
    for task in tasks:
        if task.OUTPUT_TYPE != "multiple_choice":
            raise UserError(f"task {task.task_name}: its output_type is {task.OUTPUT_TYPE}; allowed is multiple_choice")
    with quiet(verbose):
        results = lm_eval.simple_evaluate(
            model=lm,
            tasks=tasks,
            task_manager=task_manager or TaskManager(include_defaults=False),
            bootstrap_iters=0,
            log_samples=True,
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    assert results is not None
    records = [
        _record(sample, task, lm, metadata)
        for task in tasks
        for sample in sorted(results["samples"][task.task_name], key=lambda sample: sample["doc_id"])
    ]
    _check_finite(records)
    return records


def _check_finite(records: Sequence[Mapping[str, Any]]) -> None:
    """NaN is neither more nor less than anything: which option it would choose is left to chance."""
    broken = [record for record in records if not np.isfinite(record["loglikelihoods"]).all()]
    if broken:
        raise DivergedError(
            f"log-likelihoods of {len(broken)} of {len(records)} items are not finite, first "
            f"{broken[0]['item_id']} of {broken[0]['task_name']}: the model diverged, or its precision cannot hold it"
        )


def _record(sample: dict[str, Any], task: Task, lm: EcrLM | ProbeLM, metadata: Mapping[str, Any]) -> dict[str, Any]:
    doc, name = sample["doc"], str(task.task_name)
    scores = [float(value) for value, _ in sample["filtered_resps"]]
    continuations = [arguments[1] for arguments in sample["arguments"]]
    if "acc_mutual_info" in sample["metrics"]:
        # lm-eval appends each option once more without its context
        scores, continuations = scores[: len(scores) // 2], continuations[: len(continuations) // 2]
    # with a context per option, lm-eval's target is what follows them all, and its text the index of the right one
    target = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else sample["target"]
    golds = _golds(target, continuations, name)
    predicted = max(range(len(scores)), key=scores.__getitem__)
    control = lm.last_control_tokens.get((name, sample["doc_id"]), [])
    own = (task.config.metadata or {}) if hasattr(task, "config") else {}
    lang = str(doc.get("lang", own.get("lang", "")))
    target_lang = str(doc.get("target_lang", lang))
    item_id = str(doc.get("item_id", f"{name}:{sample['doc_id']}"))
    return {
        **{key: metadata[key] for key in ("cell", "arm", "precision", "seed")},
        "task": str(doc.get("task", name)),
        "task_name": name,
        "grain": str(doc.get("grain", "")),
        "group": "seen" if {lang, target_lang} <= set(metadata["seen_languages"]) else "unseen",
        "lang": lang,
        "target_lang": target_lang,
        "item_id": item_id,
        "cluster": str(doc.get("cluster", item_id)),
        "topic": str(doc.get("topic", "")),
        "control_tokens": control,
        "extra_tokens": len(control),
        "loglikelihoods": scores,
        "choice_bytes": [len(text.strip().encode()) for text in continuations],
        "gold": golds[0],
        "predicted": predicted,
        "correct": predicted in golds,
    }


def _golds(target: Any, continuations: Sequence[str], task_name: str) -> list[int]:
    """Indices of the right options; lm-eval gives an index, a text or a list of either."""
    texts = [text.strip() for text in continuations]
    golds = []
    for value in target if isinstance(target, list) else [target]:
        if isinstance(value, str) and value.strip() in texts:
            golds.append(texts.index(value.strip()))
        elif isinstance(value, int) and 0 <= value < len(texts):
            golds.append(value)
        else:
            raise UserError(f"task {task_name}: target {value!r} is none of its {len(texts)} options")
    return golds
