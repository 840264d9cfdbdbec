"""A user's files and saved data sets: what is read, and what each mistake says."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.corpora.registry import build
from ecr_bench.errors import UserError

RECORDS = [
    {"text": f"{lang} sentence {i}", "lang": lang, "meaning": f"m{i}"} for i in range(20) for lang in ("en", "de")
]


def _jsonl(path: Path, records: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path


def _build(
    path: Path, name: str = "files", languages: tuple[str, ...] = (), rows: int = 60_000, **options: str
) -> Corpus:
    options = {"path": str(path), **options}
    return build(CorpusConfig(name=name, languages=languages, rows=rows, options=options))


def _error(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        _build(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_three_formats_give_the_same_corpus(tmp_path: Path) -> None:
    jsonl = _jsonl(tmp_path / "a.jsonl", list(RECORDS))
    csv = tmp_path / "a.csv"
    csv.write_text("text,lang,meaning\n" + "".join(f"{r['text']},{r['lang']},{r['meaning']}\n" for r in RECORDS))
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), parquet)
    found = [_build(path) for path in (jsonl, csv, parquet)]
    assert len({corpus.card.fingerprint for corpus in found}) == 1
    assert found[0].card.rows == 40
    assert found[0].card.meanings == 20


def test_translations_share_a_split_unless_a_unit_says_otherwise(tmp_path: Path) -> None:
    rows = _build(_jsonl(tmp_path / "a.jsonl", list(RECORDS))).dataset
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["meaning"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {"train", "validation", "test"} == {row["split"] for row in rows}


def test_columns_are_mapped_and_given_splits_kept(tmp_path: Path) -> None:
    records = [{"t": f"x {i}", "l": "en", "s": "test" if i < 2 else "train", "c": 7} for i in range(6)]
    corpus = _build(_jsonl(tmp_path / "a.jsonl", list(records)), text="t", lang="l", split="s", label="c")
    assert corpus.card.languages == {"en": {"train": 4, "validation": 0, "test": 2}}
    assert set(corpus.dataset["label"]) == {"7"}
    assert set(corpus.dataset["slots"]) == {"{}"}


def test_rows_are_capped_and_languages_chosen(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", list(RECORDS))
    assert {lang: sum(n.values()) for lang, n in _build(path, rows=10).card.languages.items()} == {"de": 5, "en": 5}
    assert set(_build(path, languages=("de",)).card.languages) == {"de"}
    assert "no text in 'fr': allowed are de, en" in _error(path, languages=("fr",))


def test_one_language_for_all_rows(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", [{"text": f"row {i}"} for i in range(5)])
    assert set(_build(path, language="sv").card.languages) == {"sv"}
    assert "no column 'lang' (corpus.options.lang): columns here are text" in _error(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a", "lang": "en"}\n{"text": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "a", "lang": "en"}\n\n[1]\n', "a.jsonl:3: each line must be an object"),
        ("a.jsonl", '{"text": 5, "lang": "en"}\n', "a.jsonl:1: 'text' must be text (got 5)"),
        ("a.jsonl", '{"text": "a", "lang": ""}\n', "a.jsonl:1: no language"),
        (
            "a.jsonl",
            '{"text": "a", "lang": "en", "split": "dev"}\n',
            "unknown split 'dev': allowed are train, validation",
        ),
        ("a.jsonl", '{"text": "a", "lang": "en"}\n{"text": " ", "lang": "ja"}', "language 'ja' has no text"),
        ("a.jsonl", '{"t": "a", "lang": "en"}', "no column 'text' (corpus.options.text): columns here are t, lang"),
        ("a.jsonl", "", "a.jsonl: empty"),
        ("a.csv", "text,lang\n", "a.csv: empty"),
        ("a.csv", "text,lang\na,en\nb\n", "a.csv:3: needs 2 fields"),
        ("a.csv", "text,lang\na,en,x\n", "a.csv:2: needs 2 fields"),
        ("a.csv", 'text,lang\n"a"b,en\n', "a.csv:2: not CSV"),
        ("a.csv", 'text,lang\na,en\n"b,en\n', "a.csv:3: not CSV"),
        ("a.parquet", "text", "a.parquet: not a Parquet file"),
        ("a.txt", "text", "unknown ending '.txt': allowed are .csv, .jsonl, .parquet"),
    ],
)
def test_mistakes_name_file_line_and_what_is_allowed(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert message in _error(path)


def test_missing_file_wrong_encoding_and_unknown_option(tmp_path: Path) -> None:
    assert "no such file" in _error(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"text,lang\n\xff\xfe,en\n")
    assert "not UTF-8" in _error(tmp_path / "a.csv")
    assert "corpus.options.column: corpus 'files' has no such option: allowed are text, lang" in _error(
        tmp_path / "a.csv", column="x"
    )
    with pytest.raises(UserError, match=r"corpus\.options\.path"):
        build(CorpusConfig(name="files"))


def test_saved_data_set_keeps_splits_and_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features({"text": Value("string"), "lang": Value("string"), "y": ClassLabel(names=["off", "on"])})
    parts = {
        name: Dataset.from_list(
            [{"text": f"{name} {i}", "lang": "en", "y": i % 2} for i in range(count)], features=features
        )
        for name, count in (("train", 6), ("test", 3))
    }
    DatasetDict(parts).save_to_disk(tmp_path / "d")
    corpus = _build(tmp_path / "d", name="hub", label="y")
    assert corpus.card.languages == {"en": {"train": 6, "validation": 0, "test": 3}}
    assert set(corpus.dataset["label"]) == {"off", "on"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _build(Path("~/d"), name="hub", label="y").card.fingerprint == corpus.card.fingerprint
    taken = _build(tmp_path / "d", name="hub", take="train").card.languages["en"]
    assert sum(taken.values()) == 6
    assert taken["test"] == 1
    assert "no split 'dev': allowed are train, test" in _error(tmp_path / "d", name="hub", take="dev")
    assert "no column 'z'" in _error(tmp_path / "d", name="hub", label="z")


def test_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert "cannot load data set 'nobody/nothing'" in _error(Path("nobody/nothing"), name="hub")


def test_a_unit_in_two_splits_is_refused_and_a_missing_split_follows_the_unit(tmp_path: Path) -> None:
    rows = [{**record, "split": "train"} for record in RECORDS]
    rows[0]["split"] = "test"  # its translation, which has the same meaning and so the same unit, is in train
    assert "unit 'm0' has rows in test and train" in _error(_jsonl(tmp_path / "a.jsonl", list(rows)), split="split")
    rows[0]["split"] = ""
    table = _build(_jsonl(tmp_path / "b.jsonl", list(rows)), split="split").dataset.to_pandas()
    assert set(table.split) == {"train"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "\xff", "lang": "en"}', "a.jsonl:2: not UTF-8"),
        (b'{"text": "\\ud800", "lang": "en"}', "a.jsonl:2: holds half of a character"),
        (b"[" * 100_000, "a.jsonl:2: not JSON: nested too deeply"),
    ],
)
def test_odd_bytes_are_one_line_with_their_number(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine", "lang": "en"}\n' + line + b"\n")
    assert message in _error(path)
