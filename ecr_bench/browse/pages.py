"""``ecr-bench items``: a page of single answers, and its data in a file for each task and language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from ecr_bench.browse.sources import Codebook, ItemKey, codebook, items_of
from ecr_bench.io import atomic_dir, write_text
from ecr_bench.report.page import escaping, page_style, template
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.run import Run
from ecr_bench.types import Item

FOLDER, PAGE = "items", "index.html"
SAMPLE = 30
"""Items of each task and language."""


def write_items_page(run: Run, out: Path, folder: Path) -> Path:
    """Write ``folder/items/``: the page, and the data of each task and language in a script that is loaded when asked.

    It holds sentences of the corpus, so it stands beside a run and is no published file. UserError where the store of
    ``out`` has them no more.
    """
    records = run.records()
    highest = ordered_precisions(records["precision"].unique())[0]
    records = records[records["precision"] == highest]
    records = records[records["seed"] == records.groupby("arm")["seed"].transform("min")]
    items = items_of(records, out)
    books = {cell: codebook(run, cell, out) for cell in records["cell"].unique()}
    with atomic_dir(folder / FOLDER) as temporary:
        parts: list[dict[str, Any]] = []
        for (task, lang), part in records.groupby(["task", "lang"], sort=True):
            name = f"{len(parts):03d}.js"
            data = json.dumps(list(_answered(part, items)), ensure_ascii=False)
            write_text(temporary / name, f"ecrItems({json.dumps(name)}, {_inert(data)});\n")
            parts.append({"task": task, "lang": lang, "group": part["group"].iloc[0], "file": name})
        write_text(temporary / "codes.js", f"ecrCodes({_inert(json.dumps(_codes(books), ensure_ascii=False))});\n")
        arms = sorted(records["arm"].unique(), key=lambda arm: (run.arms[arm].role.is_control, arm))
        write_text(temporary / PAGE, _page(run, highest, parts, arms))
    return folder / FOLDER / PAGE


def _answered(part: pd.DataFrame, items: dict[ItemKey, Item]) -> Iterator[dict[str, Any]]:
    """Items with what each arm said to them; the sample is the same for all arms, drawn over the ids."""
    ids = sorted(part["item_id"].unique())
    chosen = set(pd.Series(ids).sample(min(SAMPLE, len(ids)), random_state=0))
    for (task_name, item_id), rows in part[part["item_id"].isin(chosen)].groupby(["task_name", "item_id"], sort=True):
        item = items[task_name, item_id]
        yield {
            "id": item_id,
            "text": item.text,
            "question": item.question,
            "options": list(item.choices),
            "gold": item.gold,
            "target": item.target_lang,
            "answers": {
                row.arm: {
                    "cell": row.cell,
                    "scores": [round(score, 3) for score in row.loglikelihoods],
                    "said": int(row.predicted),
                    "tokens": list(map(int, row.control_tokens)),
                }
                for row in rows.itertuples()
            },
        }


def _codes(books: dict[str, Codebook | None]) -> dict[str, Any]:
    return {cell: {"first": book.first, "null": book.null, "texts": book.texts} for cell, book in books.items() if book}


def _inert(data: str) -> str:
    """JSON that may stand in a script: no text of a corpus can end it."""
    return data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _page(run: Run, precision: str, parts: list[dict[str, Any]], arms: list[str]) -> str:
    return (
        escaping()
        .get_template("items.html")
        .render(
            name=run.name,
            precision=precision,
            parts=parts,
            arms=arms,
            tasks=list(dict.fromkeys(part["task"] for part in parts)),
            langs=list(dict.fromkeys(part["lang"] for part in parts)),
            data=Markup(_inert(json.dumps(parts))),
            policy="",  # it loads the data beside it
            style=Markup(page_style()),
            script=Markup(template("items.js")),
        )
    )
