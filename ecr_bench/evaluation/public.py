"""Public benchmarks by name, from the hub or from local files, with lm-eval's own prompts.

``tasks, manager = public_tasks(["xcopa", "belebele_de"])`` and then ``evaluation.run.evaluate(lm, tasks, ...)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from ecr_bench.corpora.files import READERS
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.cue import cue_for, cue_of
from ecr_bench.errors import UserError, unknown
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS, Field, Member, PublicTask, all_public_tasks, members
from ecr_bench.evaluation.run import quiet


def public_tasks(
    names: Sequence[str], data_dir: Path | None = None, limit: int | None = None, shots: int = 0
) -> tuple[list[Task], TaskManager]:
    """Load benchmarks as lm-eval tasks whose documents say what a record needs.

    Args:
        names: public tasks (``xcopa``: all its languages, or those ``data_dir`` has), or with a language
            (``xcopa_it``, ``belebele_deu_Latn`` or ``belebele_de``).
        data_dir: read ``data_dir/TASK/LANGUAGE/SPLIT.jsonl`` (docs/public-tasks.md) instead of the hub.
        limit: first documents of each task only.
        shots: solved examples in front of every document: the first ones of a split that is not scored.

    Every document gets ``task`` (its name), ``lang`` (``languages.language``), ``grain``, ``cluster`` and
    ``item_id``; fields that prompts need stay as they are. Raises UserError for unknown names, a missing or malformed
    file or field, a data set that cannot be fetched, a task that has no ``shots`` to give, and documents that lm-eval
    cannot make a prompt of.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: must be 1 or more")
    if shots < 0:
        raise UserError(f"--num-fewshot {shots}: must be 0 or more")
    manager = TaskManager(include_defaults=False)
    return [_task(member, manager, data_dir, limit, shots) for member in find(names, data_dir)], manager


def find(names: Sequence[str], data_dir: Path | None = None) -> list[Member]:
    """The benchmarks and languages ``names`` stand for, each once; UserError for a name that stands for none."""
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"--data-dir {data_dir}: no such folder")
    found: dict[str, Member] = {}
    for name in names:
        for member in _named(name, data_dir):
            found.setdefault(member.task_name, member)
    return list(found.values())


def check_conditioning(tasks: Sequence[Task], conditioner: Conditioner | None) -> None:
    """UserError where ``conditioner`` would be scored on a task that declares nothing for it to look at or to hide."""
    if conditioner is None or conditioner.source is None:
        return
    for task in tasks:
        if cue_for(task.task_name) is None:
            raise UserError(
                f"task {task.task_name}: which of its text control tokens may see is not declared; add it to "
                "ecr_bench.ecr.cue.CUES (docs/public-tasks.md) or score without control tokens (--no-ecr)"
            )
        if conditioner.drop_cue and any(
            public.text_in_options and task.task_name.startswith(public.prefix) for public in all_public_tasks()
        ):
            raise UserError(
                f"task {task.task_name}: this model must not see the text (codes-only), and here it stands in the "
                "options; leave this task out"
            )


def _named(name: str, data_dir: Path | None) -> list[Member]:
    if name in PUBLIC_TASKS:
        public = PUBLIC_TASKS.get(name)
        return members(public) if data_dir is None else _members_in(public, data_dir)
    for public in all_public_tasks():
        own = [member for member in members(public) if name in member.aliases]
        if own:
            return own[:1]
        if name.startswith((public.prefix, f"{public.name}_")):
            raise unknown(f"{public.name} task", name, [member.task_name for member in members(public)])
    raise UserError(
        f"unknown public task {name!r}: allowed are {', '.join(PUBLIC_TASKS)}, or one with a language (xcopa_it)"
    )


def _members_in(public: PublicTask, data_dir: Path) -> list[Member]:
    """The languages of a public task that have a folder, which may be called by lm-eval's code or by ours."""
    folders = sorted(path.name for path in (data_dir / public.name).glob("[!.]*") if path.is_dir())
    if not folders:
        raise UserError(f"{data_dir / public.name}: no folder of a language here; {_layout(public)}")
    by_folder = {key: member for member in members(public) for key in (member.lang, member.code)}
    for folder in folders:
        if folder not in by_folder:
            raise UserError(
                f"{data_dir / public.name / folder}: lm-eval has no {public.name} in this language: allowed are "
                f"{', '.join(sorted(public.configs))}"
            )
    return [by_folder[folder] for folder in folders]


def _layout(public: PublicTask) -> str:
    return f"expected is {public.name}/LANGUAGE/{public.splits[0]}.jsonl with the fields {', '.join(public.fields)}"


def _task(member: Member, manager: TaskManager, data_dir: Path | None, limit: int | None, shots: int) -> Task:
    public = member.public
    config = load_yaml(public.configs[member.code]) | dict(public.overrides)
    split = config.get("test_split") or config["validation_split"]
    examples = _split_of_examples(member, config, split) if shots else split
    config |= {
        "task": member.task_name,
        # lm-eval reads all training rows of a task it is given no shots of
        "num_fewshot": shots, "training_split": None, "fewshot_split": examples,
        # the same ones for every document, arm and precision, whatever is left out
        "fewshot_config": {"sampler": "first_n"},
    }  # fmt: skip
    if public.all_codes:
        config["dataset_name"] = member.code
    where = f"{config['dataset_path']} ({config.get('dataset_name')}) from the hub"
    if data_dir is not None:
        path = _file(member, data_dir)
        rows, where = {split: _rows(public, path)}, str(path)
        if shots:
            rows[examples] = _rows(public, _file_of_examples(path, examples))
        config["custom_dataset"] = lambda **_: rows
    try:
        with quiet():
            task = manager.load([config])["tasks"][member.task_name]
            _check_examples(task, shots)
            # once, and not each time lm-eval asks for the documents; its own `process_docs` has been applied
            task.dataset = {split: _described(member, task.eval_docs, limit)}
            task.config.process_docs = None
            _check_prompts(task, where)
    except UserError:
        raise
    except Exception as error:  # each storage back end and each prompt function raises its own kind
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "" if data_dir else f"; with the files at hand: --data-dir DIR, where {_layout(public)}"
        raise UserError(f"task {member.task_name}: cannot load {where}: {reason:.200}{remedy}") from error
    return task


def _split_of_examples(member: Member, config: Mapping[str, Any], scored: str) -> str:
    """Training rows, or validation rows where these are not what is scored; UserError where there are none."""
    for name in (config.get("training_split"), config.get("validation_split")):
        if name and name != scored:
            return str(name)
    raise UserError(f"--num-fewshot: {member.task_name} has no split but {scored!r}, which is scored; leave it out")


def _check_examples(task: Task, shots: int) -> None:
    """UserError where there are fewer than ``shots``, or one of them makes no prompt."""
    if not shots:
        return
    found = list(task.sampler.fewshot_docs())
    if len(found) < shots:
        raise UserError(f"--num-fewshot {shots}: {task.task_name} has {len(found)} examples")
    task.fewshot_context(task.eval_docs[0], shots)


def _described(member: Member, docs: Dataset, limit: int | None) -> Dataset:
    """The first ``limit`` documents, with the columns that records need."""
    docs = docs if limit is None else docs.select(range(min(limit, len(docs))))
    public, cluster = member.public, member.public.cluster
    keys = docs.select_columns(list(cluster.fields)) if cluster.fields else [{}] * len(docs)
    columns = {key: [value] * len(docs) for key, value in _constants(member).items()}
    # named by their place in the whole set, so that what is left out of one arm moves no name
    columns["item_id"] = [f"{member.task_name}:{position}" for position in range(len(docs))]
    columns["cluster"] = [cluster.name(public.name, member.lang, doc, position) for position, doc in enumerate(keys)]
    docs = docs.remove_columns([key for key in columns if key in docs.column_names])
    for key, values in columns.items():
        docs = docs.add_column(key, values)
    return docs


def _constants(member: Member) -> dict[str, str]:
    return {"task": member.public.name, "lang": member.lang, "grain": member.public.grain, "topic": ""}


def _check_prompts(task: Task, where: str) -> None:
    for number, doc in enumerate(task.eval_docs, 1):
        try:
            task.doc_to_text(doc), task.doc_to_target(doc), task.doc_to_choice(doc)
            cue_of(task.task_name, doc)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"{where}: item {number}: lm-eval cannot make its prompt ({reason:.200})") from error


# --- local files ---------------------------------------------------------------------------------


def _file(member: Member, data_dir: Path) -> Path:
    public = member.public
    folders = [data_dir / public.name / name for name in dict.fromkeys((member.code, member.lang))]
    files = [folder / f"{split}.jsonl" for folder in folders if folder.is_dir() for split in public.splits]
    for path in files:
        if path.is_file():
            return path
    missing = files[0] if files else folders[0]
    raise UserError(f"no such file: {missing}; {_layout(public)}")


def _file_of_examples(scored: Path, split: str) -> Path:
    """The file of ``split`` beside the one that is scored."""
    path = scored.with_name(f"{split}.jsonl")
    if path == scored or not path.is_file():
        raise UserError(f"--num-fewshot: no such file: {path}; examples come from this split of lm-eval's")
    return path


def _rows(public: PublicTask, path: Path) -> Dataset:
    """The documents of a JSONL file, with the fields the public task needs; those that may be anything become text."""
    try:
        records = list(READERS[".jsonl"](path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not records:
        raise UserError(f"{path}: empty; {_layout(public)}")
    for where, record in records:
        for name, kind in public.fields.items():
            if problem := _problem(record, name, kind):
                raise UserError(f"{where}: {problem}; needed are {', '.join(public.fields)}")
    columns: dict[str, list[Any]] = {
        name: [record[name] if kind is not None else str(record[name]) for _, record in records]
        for name, kind in public.fields.items()
    }
    return Dataset(pa.table(columns))


def _problem(record: dict[str, Any], name: str, kind: Field) -> str:
    if record.get(name) is None:
        return f"no field {name!r}"
    value = record[name]
    if isinstance(kind, re.Pattern):
        if not isinstance(value, str):
            return f"field {name!r} must be text (got {type(value).__name__})"
        return "" if kind.search(value) else f"field {name!r} must be text with {kind.pattern!r} (got {value!r:.60})"
    if isinstance(kind, tuple) and (isinstance(value, bool) or value not in kind):
        return f"field {name!r} is {value!r:.60}: allowed are {', '.join(map(repr, kind))}"
    return ""
