"""``ecr-bench eval``: score a saved model on public benchmarks, print the result by language, keep the records."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from ecr_bench.ecr.cue import cue_for
from ecr_bench.errors import UserError
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS
from ecr_bench.evaluation.records import SCHEMA, undecided
from ecr_bench.formats import percent
from ecr_bench.io import check_folder, read_json
from ecr_bench.results.eval_folder import RECORDS, SUMMARY, write_evaluation
from ecr_bench.runner.public import Evaluation, Prepared, ScoredTask, prepare, provenance_of, score
from ecr_bench.statistics.paired import accuracy
from ecr_bench.statistics.panel import build_panel
from ecr_bench.table import Line, Table, print_table
from ecr_bench.verbosity import progress_console

ALL = "all"
NAMED = 3
"""Items that are named in the terminal; eval.json names all."""


class PartlyFailedError(UserError):
    """Some tasks could not be scored; what could be is written."""

    exit_code = 3


def run_evaluation(asked: Evaluation, out: Path | None, console: Console) -> list[dict[str, Any]]:
    """Score, print and write ``records.parquet`` and ``eval.json``; returns the lines of the table.

    ``out`` None: a folder of its own in ``runs/eval`` for each model, precision, window and set of documents.
    UserError before anything is scored where ``out`` holds scores of something else; PartlyFailedError after all is
    written where a task failed.
    """
    prepared = prepare(asked)
    folder = out or Path("runs") / "eval" / prepared.identity
    _check_free(folder, prepared)
    check_folder(folder, "--out")
    scored = score(prepared, progress_console(console))
    records = pd.DataFrame([record for task in scored for record in task.records], columns=SCHEMA.names)
    failed = {task.name: task.failure for task in scored if task.failure}
    results = summary(records, {_task_of(task) for task in scored if task.failure})
    tasks = {task.name: _told(task, prepared) for task in scored}
    as_stock = all(told["as_stock"] for told in tasks.values())
    told = {**provenance_of(prepared), "as_stock": as_stock, "tasks": tasks, "results": results}
    write_evaluation(folder, records, told)
    print_results(results, prepared, console)
    print_left_out(scored, prepared, console)
    console.print(f"Written to [bold]{escape(str(folder))}[/]: {RECORDS}, {SUMMARY}", highlight=False, soft_wrap=True)
    if failed:
        names = ", ".join(failed)
        raise PartlyFailedError(f"{len(failed)} of {len(scored)} tasks failed ({names}); see {folder / SUMMARY}")
    return results


def _task_of(task: ScoredTask) -> str:
    return str(task.examined.task.eval_docs[0]["task"])


def _told(task: ScoredTask, prepared: Prepared) -> dict[str, Any]:
    """What ``eval.json`` says of a task beside its accuracy."""
    left_out, records = task.examined.left_out, _frame(task)
    return {
        "items": task.examined.items,
        "left_out": [str(one) for one in left_out],
        "cut": task.cut,
        "undecided": int(undecided(records).sum()),
        "one_answer": one_answer(records),
        "failed": task.failure or None,
        # stock lm-eval leaves nothing out: it ends at an option that does not fit
        "as_stock": prepared.lm.conditioner is None and not left_out and not task.failure,
    }


def _frame(task: ScoredTask) -> pd.DataFrame:
    return pd.DataFrame(task.records, columns=SCHEMA.names)


def summary(records: pd.DataFrame, incomplete: Collection[str] = ()) -> list[dict[str, Any]]:
    """Accuracy of each task by language and over all (the mean of its languages), with its 95 % interval.

    The interval is over clusters of items (``statistics.paired``); it does not cover seeds. Public tasks that are
    ``incomplete``, because a language of them failed, have no mean over languages.
    """
    lines = []
    for task, rows in records.groupby("task", sort=False):
        parts = [(lang, part) for lang, part in rows.groupby("lang", sort=True)]
        whole = [(ALL, rows)] if len(parts) > 1 and task not in incomplete else []
        lines += [_line(str(task), str(lang), part) for lang, part in [*parts, *whole]]
    return lines


def _line(task: str, lang: str, records: pd.DataFrame) -> dict[str, Any]:
    panel = build_panel(records)
    first = records.iloc[0]
    found = accuracy(panel, first["arm"], first["precision"], task)
    return {
        "task": task,
        "lang": lang,
        "items": found.n_items,
        "clusters": found.n_clusters,
        "accuracy": found.value,
        "low": found.low,
        "high": found.high,
        "chance": panel.chance(task),
        "one_answer": one_answer(records),
    }


def one_answer(records: pd.DataFrame) -> bool:
    """Whether all items of each language have the same options, as labels are, and the same right one, as the first
    documents of a sorted set have: a model that always says one thing then has all or nothing right there."""
    if not {"gold", "choice_bytes"} <= set(records.columns):
        return False
    by_lang = records.assign(options=records["choice_bytes"].map(tuple)).groupby("lang")
    several = bool((by_lang.size() > 1).any())  # of one item alone it says nothing
    return several and bool((by_lang[["gold", "options"]].nunique() == 1).all(axis=None))


def print_results(results: list[dict[str, Any]], prepared: Prepared, console: Console) -> None:
    """One line per task and language, in %."""
    count = prepared.made_from["control_tokens"]
    title = f"{prepared.asked.model}, {prepared.asked.precision}, {count} control tokens per item: accuracy in %"
    console.print(escape(title), style="bold", highlight=False, soft_wrap=True)
    sections = tuple(
        tuple(_shown(line) for line in results if line["task"] == task)
        for task in dict.fromkeys(line["task"] for line in results)
    )
    heads = ("task", "language", "against chance", "items", "accuracy", "95 % interval", "chance")
    print_table(Table("", heads, sections, words=3), console)
    for task in dict.fromkeys(line["task"] for line in results) if count else ():
        cue = cue_for(PUBLIC_TASKS.get(task).prefix)
        if cue is not None and not cue.fields:
            console.print(f"{task}: its control tokens are null, because no text of it may be looked at")


def _shown(line: dict[str, Any]) -> Line:
    interval = f"{percent(line['low'])} to {percent(line['high'])}"
    numbers = str(line["items"]), percent(line["accuracy"]), interval, percent(line["chance"])
    return (line["task"], line["lang"], against_chance(line), *numbers)


def print_left_out(scored: Sequence[ScoredTask], prepared: Prepared, console: Console) -> None:
    """Per task: items that were left out, contexts that were cut, items left undecided, and why it failed."""
    window = prepared.lm.max_length

    def say(text: str, style: str = "") -> None:
        console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    for task in scored:
        items = task.examined.items
        if lost := task.examined.left_out:
            say(f"{task.name}: {len(lost)} of {items} items are left out, the window holds {window} tokens:")
            for one in lost[:NAMED]:
                say(f"  {one}")
        if task.cut:
            say(f"{task.name}: the context of {task.cut} of {items} items was cut on its left to fit {window} tokens")
        records = _frame(task)
        if one_answer(records):
            of = " of a language" if records["lang"].nunique() > 1 else ""
            say(f"{task.name}: one option is right in all items{of}, so accuracy says which one the model prefers")
        if tied := int(undecided(records).sum()):  # the order of the options decided
            say(f"{task.name}: two options of {tied} of {items} items have the same, highest score: the first is taken")
        if task.failure:
            say(f"{task.name}: failed: {task.failure}", "red")


def against_chance(line: dict[str, Any]) -> str:
    """``above`` or ``below`` where the interval leaves chance out, else that it cannot be told; nothing of it where all
    items have one right answer."""
    if line.get("one_answer"):
        return "one right answer"
    if line["low"] > line["chance"]:
        return "above"
    return "below" if line["high"] < line["chance"] else "not told apart"


def _check_free(folder: Path, prepared: Prepared) -> None:
    """Before anything is scored: ``folder`` can be written, and what it holds is not of another evaluation."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"--out {folder}: {existing} is not a folder one can write to; choose another")
    if not (folder / SUMMARY).is_file():
        return
    kept = read_json(folder / SUMMARY)
    if not isinstance(kept, dict) or kept.get("identity") != prepared.identity:
        raise UserError(f"--out {folder}: holds the scores of another model, task or setting; choose another folder")
