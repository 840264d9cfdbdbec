"""``ecr-bench eval``: a saved model on public benchmarks, with and without control tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedTokenizerFast

from ecr_bench.cli import main
from ecr_bench.evaluation.records import read_records
from ecr_bench.io import read_json, write_json
from ecr_bench.results.public import against_chance, summary
from tests.helpers.commands import fails
from tests.helpers.public_sets import documents, save_tiny_ecr, write, write_set


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast, anchors_and_projection: Any
) -> Path:
    return save_tiny_ecr(tmp_path_factory.mktemp("saved") / "model", tokenizer, anchors_and_projection)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("public")
    write_set(root, "xcopa", 30)
    write_set(root, "xwinograd", 10)
    return root


def ask(folder: Path, data: Path, *more: str) -> list[str]:
    return ["eval", str(folder), "xcopa", "xwinograd", "--data-dir", str(data), *more]


def test_a_model_with_control_tokens(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(ask(folder, data, "--out", str(tmp_path / "out"), "--seen", "it"))
    output = capsys.readouterr().out
    assert "xcopa" in output and "3 control tokens" in output and "against chance" in output
    records, kept = read_records(tmp_path / "out" / "records.parquet"), read_json(tmp_path / "out" / "eval.json")
    assert len(records) == 2 * 30 + 2 * 10 and set(records["extra_tokens"]) == {3}
    assert set(records["arm"]) == {"projection"}
    assert dict(zip(records["lang"], records["group"], strict=True)) == {
        "it": "seen", "zh": "unseen", "en": "unseen", "ja": "unseen",
    }  # fmt: skip
    lines = {(line["task"], line["lang"]): line for line in kept["results"]}
    assert set(lines) == {
        (t, lang) for t, langs in (("xcopa", "it zh all"), ("xwinograd", "en ja all")) for lang in langs.split()
    }
    by_language = records.groupby(["task", "lang"])["correct"].mean()
    for (task, lang), line in lines.items():
        expected = by_language[task].mean() if lang == "all" else by_language[task, lang]
        assert line["accuracy"] == pytest.approx(expected) and line["low"] < line["accuracy"] < line["high"]
        assert line["chance"] == 0.5
        assert f"{100 * line['accuracy']:.1f}" in output
    # translations are resampled together; schemas of different languages are not
    assert lines["xcopa", "all"]["clusters"] == 30 and lines["xwinograd", "all"]["clusters"] == 10
    assert kept["control_tokens"] == 3 and kept["packages"]["lm_eval"] and kept["documents"]["xcopa_it"]["items"] == 30


def test_without_ecr_the_same_folder_scores_as_plain(folder: Path, data: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(folder, tmp_path / "plain", ignore=shutil.ignore_patterns("conditioner"))
    main(ask(folder, data, "--no-ecr", "--out", str(tmp_path / "a"), "--limit", "5"))
    main(ask(plain, data, "--out", str(tmp_path / "b"), "--limit", "5"))
    main(ask(folder, data, "--out", str(tmp_path / "c"), "--limit", "5"))
    off, without, on = (read_records(tmp_path / name / "records.parquet")["loglikelihoods"] for name in "abc")
    assert [list(row) for row in off] == [list(row) for row in without]
    assert max(np.abs(a - b).max() for a, b in zip(off, on, strict=True)) > 1e-3
    assert read_json(tmp_path / "a" / "eval.json")["control_tokens"] == 0
    assert read_json(tmp_path / "a" / "eval.json")["limit"] == 5


def test_each_setting_has_a_folder_of_its_own(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--no-ecr"], []):
        main(["eval", str(folder), "xcopa_it", "--data-dir", str(data), "--limit", "3", *more])
    folders = sorted(path.name for path in Path("runs/eval").iterdir())
    assert len(folders) == 2
    before = {path: path.read_bytes() for path in Path("runs/eval").rglob("*.*")}
    line = fails(capsys, "eval", str(folder), "xcopa_it", "--data-dir", str(data), "--out", f"runs/eval/{folders[0]}")
    assert "holds the scores of another model" in line
    assert {path: path.read_bytes() for path in Path("runs/eval").rglob("*.*")} == before


def test_bad_input(folder: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    broken, unread = tmp_path / "broken", shutil.copytree(folder, tmp_path / "unread")
    broken.mkdir()
    (unread / "model.safetensors").write_bytes(b"no weights")
    without = shutil.copytree(folder, tmp_path / "without", ignore=shutil.ignore_patterns("tokenizer*"))
    silent = shutil.copytree(folder, tmp_path / "silent")
    settings = {**read_json(silent / "tokenizer_config.json"), "bos_token": None, "eos_token": None}
    write_json(silent / "tokenizer_config.json", settings)
    there = set(tmp_path.rglob("*"))
    cases: list[tuple[list[str], list[str]]] = [
        (["eval", "nowhere", "xcopa"], ["no such model folder: nowhere"]),
        (["eval", str(broken), "xcopa"], ["broken", "config.json"]),
        (["eval", str(unread), "xcopa", "--data-dir", str(data)], ["unread", "not safetensors, or not whole"]),
        (["eval", str(without), "xcopa", "--data-dir", str(data)], ["without", "no usable tokenizer"]),
        (["eval", str(silent), "xcopa", "--data-dir", str(data)], ["silent", "neither a BOS nor an EOS token"]),
        (ask(folder, data, "--out", str(silent / "config.json")), ["--out", "config.json", "not a folder"]),
        (["eval", str(folder), "xcopa", "--precision", "fp8"], ["precision", "fp8", "nf4"]),
        (["eval", str(folder), "xcopa", "--limit", "0"], ["limit 0", "1 or more"]),
        (["eval", str(folder), "xcoba"], ["xcoba", "xcopa"]),
        (["eval", str(folder), "xcopa"], ["cambridgeltl/xcopa", "hub", "--data-dir"]),
        (["eval", str(folder), "xcopa", "--data-dir", "nowhere"], ["--data-dir nowhere", "no such folder"]),
        (["eval", str(folder)], ["tasks"]),
    ]
    for arguments, words in cases:
        line = fails(capsys, *arguments)
        assert all(word in line for word in words), line
        assert set(tmp_path.rglob("*")) == there


def test_null_tokens_are_announced(folder: Path, tmp_path: Path, capsys: Any) -> None:
    write_set(tmp_path / "data", "multiblimp", 4)
    ask_for = ["eval", str(folder), "multiblimp", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    main(ask_for)
    assert "multiblimp: its control tokens are null" in capsys.readouterr().out
    tokens = set(map(tuple, read_records(tmp_path / "out" / "records.parquet")["control_tokens"]))
    assert len(tokens) == 1 and len(set(tokens.pop())) == 1


def labelled(golds: list[int], same_options: bool = True) -> pd.DataFrame:
    """Records of a model that takes the first of three options, whose right one is in ``golds``."""
    ids = [str(i) for i in range(len(golds))]
    sizes = [[3, 4, 5] if same_options or i % 2 else [6, 4, 5] for i in range(len(golds))]
    return pd.DataFrame({
        "arm": "plain", "precision": "fp32", "seed": 0, "task": "sib200", "task_name": "sib200_it",
        "grain": "coarse", "lang": "it", "target_lang": "it", "item_id": ids, "cluster": ids, "gold": golds,
        "correct": [gold == 0 for gold in golds], "choice_bytes": sizes,
        "loglikelihoods": [[1.0, 0.0, 0.0]] * len(golds),
    })  # fmt: skip


@pytest.mark.parametrize(("golds", "same_options", "said"), [
    ([2] * 30, True, "one right answer"),  # the first documents of a sorted set
    ([0] * 30, True, "one right answer"),
    ([2] * 30, False, "below"),  # a pair of sentences, the right one first: no option is liked for itself
    ([0, 1, 2] * 10, True, "not told apart"),
    ([0] * 4, True, "one right answer"),  # few as they are, they do not say that it can read
])  # fmt: skip
def test_one_right_answer_says_nothing_of_chance(golds: list[int], same_options: bool, said: str) -> None:
    (line,) = summary(labelled(golds, same_options))
    assert against_chance(line) == said and line["one_answer"] == (said == "one right answer")


def test_languages_with_one_right_answer_each_say_nothing_of_chance_together() -> None:
    italian, other = labelled([0] * 5, True), labelled([2] * 5, True)
    other = other.assign(lang="fi", target_lang="fi", task_name="sib200_fi", choice_bytes=[[9, 9, 1]] * 5)
    other = other.assign(item_id=[f"fi{i}" for i in range(5)], cluster=[f"fi{i}" for i in range(5)])
    lines = {line["lang"]: line for line in summary(pd.concat([italian, other], ignore_index=True))}
    assert {lang: against_chance(line) for lang, line in lines.items()} == dict.fromkeys(lines, "one right answer")
    mixed = {line["lang"]: line for line in summary(pd.concat([labelled([0, 1] * 5, True), other], ignore_index=True))}
    assert {lang: line["one_answer"] for lang, line in mixed.items()} == {"fi": True, "it": False, "all": False}


def test_the_first_documents_of_a_sorted_set_are_named(folder: Path, tmp_path: Path, capsys: Any) -> None:
    write_set(tmp_path / "data", "sib200", 40)
    for file in (tmp_path / "data").rglob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        write(file, [{**row, "category": "travel"} for row in rows])
    arguments = ["eval", str(folder), "sib200", "--data-dir", str(tmp_path / "data"), "--limit", "12"]
    main([*arguments, "--out", str(tmp_path / "out")])
    output = capsys.readouterr().out
    assert "one right answer" in output and "one option is right in all items" in output
    assert all(task["one_answer"] for task in read_json(tmp_path / "out" / "eval.json")["tasks"].values())


def test_the_interval_is_that_of_a_mean_over_clusters() -> None:
    """Against the formula for independent clusters: 100 pairs of equal items have half as many clusters."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(200) < 0.7, 2)
    frame = pd.DataFrame({
        "arm": "plain", "precision": "fp32", "seed": 0, "task": "xcopa", "task_name": "xcopa_it",
        "grain": "fine", "lang": "it", "target_lang": "it", "item_id": [str(i) for i in range(400)],
        "cluster": [str(i // 2) for i in range(400)], "correct": right, "loglikelihoods": [[0.0, 0.0]] * 400,
    })  # fmt: skip
    (line,) = summary(frame)
    mean = right.mean()
    half = 1.96 * np.sqrt(mean * (1 - mean) / 200)
    assert (line["high"] - line["low"]) / 2 == pytest.approx(half, rel=0.1)
    assert (line["clusters"], line["items"], against_chance(line)) == (200, 400, "above")
    assert against_chance({"low": 0.1, "high": 0.3, "chance": 0.5}) == "below"
    assert against_chance({"low": 0.4, "high": 0.6, "chance": 0.5}) == "not told apart"


def test_examples_are_told_and_are_nothing_that_control_tokens_look_at(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "data", "xcopa", 6)
    for code in ("it", "zh"):
        write(tmp_path / "data" / "xcopa" / code / "validation.jsonl", documents("xcopa", 3, 7))
    found = {}
    for shots in ("0", "2"):
        out = tmp_path / shots
        asked = ["eval", str(folder), "xcopa", "--data-dir", str(tmp_path / "data"), "--out", str(out)]
        main([*asked, "--num-fewshot", shots])
        assert read_json(out / "eval.json")["num_fewshot"] == int(shots)
        found[shots] = read_records(out / "records.parquet")
    capsys.readouterr()
    assert list(map(list, found["0"]["control_tokens"])) == list(map(list, found["2"]["control_tokens"]))
    assert list(map(list, found["0"]["loglikelihoods"])) != list(map(list, found["2"]["loglikelihoods"]))
    identity = {shots: read_json(tmp_path / shots / "eval.json")["identity"] for shots in found}
    assert identity["0"] != identity["2"]
