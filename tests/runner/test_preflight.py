"""Data that cannot do is refused before any stage runs and before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.publish import Execution, run_and_publish
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.preflight import check_data
from ecr_bench.runner.store import Store
from tests.helpers.outside import CASES as CASES_FOLDER
from tests.helpers.outside import needs_cases

QUIET = Console(quiet=True)


def _experiment(path: Path, **overrides: object) -> config.Experiment:
    base = {"corpus.name": "files", "corpus.languages": [], "corpus.options": {"path": str(path)}, "tasks": ["label"]}
    return config.load("tiny").with_overrides({**base, "anchors.k": 4, **overrides})


def _rows(count: int, labels: int, langs: tuple[str, ...] = ("en", "de", "fr", "zh"), **more: object) -> str:
    rows = [
        {"text": f"{lang} sentence {i} of thing {i % labels}", "lang": lang, "label": f"l{i % labels}", **more}
        for i in range(count)
        for lang in langs
    ]
    return "\n".join(map(json.dumps, rows)) + "\n"


def _refused(out: Path, experiment: config.Experiment, *parts: str) -> None:
    """One line with all of ``parts``, and no trace in ``out``."""
    with pytest.raises(UserError) as caught:
        run_and_publish(experiment, Execution(out, QUIET))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message
    assert not out.exists()


BIG = '{"text": "turn on", "lang": "en", "label": "on"}\n{"text": "a", "lang": "en", "n": ' + "9" * 5000 + "}\n"
CASES = {
    "big-integer": ("a.jsonl", BIG, ["a.jsonl:2", "too many digits"]),
    "nan": ("a.jsonl", '{"text": "a", "lang": "en", "label": NaN}\n', ["a.jsonl:1", "finite"]),
    "infinity": ("a.jsonl", '{"text": "a", "lang": "en", "n": -Infinity}\n', ["a.jsonl:1", "finite"]),
    "overflow": ("a.jsonl", '{"text": "a", "lang": "en", "n": 1e999}\n', ["a.jsonl:1", "1e999", "finite"]),
    "negative-overflow": ("a.jsonl", '{"text": "a", "lang": "en", "n": [-1E+400]}\n', ["a.jsonl:1", "finite"]),
    "repeated-key": ("a.jsonl", '{"text": "a", "lang": "en", "text": "b"}\n', ["a.jsonl:1", "'text' is there twice"]),
    "boolean-label": ("a.jsonl", '{"text": "a", "lang": "en", "label": true}\n', ["a.jsonl:1", "'label' must be text"]),
    "utf16-jsonl": ("a.jsonl", _rows(2, 2).encode("utf-16"), ["a.jsonl", "UTF-16"]),
    "latin1-jsonl": ("a.jsonl", '{"text": "ü", "lang": "de"}\n'.encode("latin-1"), ["a.jsonl:1", "not UTF-8"]),
    "nul-jsonl": ("a.jsonl", b'{"text": "a\0", "lang": "de"}\n', ["a.jsonl:1", "not JSON"]),
    "two-text-columns": ("a.csv", "text,lang,label,text\na,en,on,b\n", ["a.csv", "two columns are called 'text'"]),
    "utf16-csv": ("a.csv", "text,lang\na,en\n".encode("utf-16"), ["a.csv", "UTF-16"]),
    "latin1-csv": ("a.csv", "text,lang\nü,en\n".encode("latin-1"), ["a.csv:2", "not UTF-8"]),
    "nul-csv": ("a.csv", "text,lang\na\0,en\n", ["a.csv:2", "NUL"]),
    "slash-language": ("a.jsonl", _rows(20, 2, ("../x",)), ["a.jsonl:1", "'../x' is not a language code"]),
    "named-language": ("a.jsonl", _rows(20, 2, ("English",)), ["a.jsonl:1", "not a language code"]),
    "no-seen": ("a.jsonl", _rows(40, 4, ("fr", "it")), ["seen_languages: no text in de, en", "fr, it"]),
    "few-rows": ("a.jsonl", _rows(9, 4), ["no validation items", "10 rows or more", "column 'split'"]),
    "few-labels": ("a.jsonl", _rows(60, 3), ["3 labels", "4 or more"]),
    "no-label": ("a.jsonl", _rows(60, 60).replace('"label"', '"topic"'), ["label"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_with_a_users_file_is_one_line_before_anything_runs(tmp_path, name):
    file, content, parts = CASES[name]
    path = tmp_path / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    _refused(tmp_path / "out", _experiment(path), *parts)


def test_labels_that_occur_once_are_said_to_need_more_rows(tmp_path):
    """What is missing, and how many rows are needed."""
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"number {i}", "lang": ("en", "de", "fr", "zh")[i % 4], "label": f"only{i}"} for i in range(80)]
    path.write_text("\n".join(map(json.dumps, rows)))
    parts = ["no validation items", "has a label that training has", "has 1 of 80 rows", "2 or more", "20"]
    _refused(tmp_path / "out", _experiment(path), *parts)


def test_a_folder_a_missing_file_and_a_repeated_parquet_column(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    _refused(tmp_path / "out", _experiment(tmp_path / "a.jsonl"), "a.jsonl: is a folder")
    _refused(tmp_path / "out", _experiment(tmp_path / "b.jsonl"), "no such file", "b.jsonl")
    table = pa.table([["a"], ["en"], ["b"]], names=["text", "lang", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    _refused(tmp_path / "out", _experiment(tmp_path / "a.parquet"), "two columns are called 'text'")


@needs_cases
@pytest.mark.parametrize(
    "name", ["big-integer.jsonl", "two-text-columns.csv", "label-once.jsonl", "slash-language.jsonl"]
)
def test_the_shared_cases_are_refused(tmp_path, name):
    _refused(tmp_path / "out", _experiment(CASES_FOLDER / "corpora" / name), name)


def test_a_meaning_task_says_what_pairs_it_lacks(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(_rows(60, 4))
    _refused(
        tmp_path / "out", _experiment(path, tasks=["meaning"]), "task 'meaning'", "no meaning occurs in two languages"
    )


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"corpus.languages": [], "seen_languages": ["en", "hu"]}, ["seen_languages: no text in hu", "uk"]),
        ({"corpus.languages": ["en", "xx"], "seen_languages": ["en"]}, ["no language 'xx'", "allowed are cs"]),
        ({"corpus.rows": 3}, ["corpus.rows: 3"]),
        ({"corpus.name": "messages", "corpus.languages": [], "seen_languages": ["tlh"]}, ["no text in tlh"]),
    ],
)
def test_a_shipped_corpus_is_asked_before_it_is_built(tmp_path, overrides, parts):
    _refused(tmp_path / "out", config.load("tiny").with_overrides(overrides), *parts)


def test_cells_with_a_corpus_of_their_own_are_looked_at(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(_rows(60, 4))
    (tmp_path / "bad.jsonl").write_text("[]")
    group = {"method": "finetune", "set": {"corpus.options": {"path": str(tmp_path / "bad.jsonl")}}}
    _refused(tmp_path / "out", _experiment(path, cells=[{"method": "finetune"}, group]), "bad.jsonl:1")


def test_sound_data_passes(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(_rows(60, 4))
    check_data(make_plan(_experiment(path)), Store(tmp_path / "out"), QUIET)
    check_data(make_plan(config.load("quick")), Store(tmp_path / "out"), QUIET)
    assert not (tmp_path / "out").exists()
