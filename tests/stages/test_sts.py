"""Similarity of sentence pairs: how they are read, and their measure."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from ecr_bench.errors import UserError
from ecr_bench.evaluation.sts import read_sts
from tests.helpers.measuring import measured, save_cell

PAIRS = [{"sentence1": f"the lamp {i}", "sentence2": f"a lamp {i % 3}", "score": float(i % 6)} for i in range(30)]


def test_sts_from_a_folder_of_languages(tmp_path):
    for lang in ("de", "xx"):
        (tmp_path / lang).mkdir()
        (tmp_path / lang / "test.jsonl").write_text("\n".join(json.dumps(row) for row in PAIRS) + "\n")
    found = read_sts(str(tmp_path), ["en", "de"], 12)
    assert len(found) == 12 and set(found["lang"]) == {"de"} and found["score"].dtype == float
    pd.testing.assert_frame_equal(found, read_sts(str(tmp_path), ["de"], 12))


def test_sts_from_data_sets_saved_to_disk(tmp_path):
    DatasetDict({"de": Dataset.from_list(PAIRS), "fr": Dataset.from_list(PAIRS)}).save_to_disk(tmp_path / "splits")
    rows = [{**row, "lang": lang} for lang in ("de", "ru") for row in PAIRS]
    Dataset.from_list(rows).save_to_disk(tmp_path / "column")
    assert sorted(set(read_sts(str(tmp_path / "splits"), ["de", "en"], 5)["lang"])) == ["de"]
    assert read_sts(str(tmp_path / "column"), ["de", "ru"], 5)["lang"].value_counts().to_dict() == {"de": 5, "ru": 5}


def test_sts_from_a_data_set_with_a_configuration_per_language(tmp_path):
    """The layout of a repository on the hub, read by the same calls."""
    for lang in ("de", "en"):
        rows = [
            {"sentence1": r["sentence1"], "sentence2": r["sentence2"], "similarity_score": r["score"]} for r in PAIRS
        ]
        (tmp_path / f"{lang}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    configs = "".join(
        f"- config_name: {lang}\n  data_files:\n  - split: test\n    path: {lang}.jsonl\n" for lang in ("de", "en")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    found = read_sts(str(tmp_path), ["de", "en", "ru"], 7)
    assert found["lang"].value_counts().to_dict() == {"de": 7, "en": 7}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence1": "a"}', "no 'sentence2'"),
        ('{"sentence1": "a", "sentence2": "b", "score": "x"}', "must be a number"),
        ("{", "test.jsonl:1: not JSON"),
    ],
)
def test_sts_errors_name_file_and_line(tmp_path, line, message):
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "test.jsonl").write_text(line)
    with pytest.raises(UserError, match=message):
        read_sts(str(tmp_path), ["de"], 5)
    with pytest.raises(UserError, match="no sentence pairs in ru"):
        read_sts(str(tmp_path), ["ru"], 5)
    with pytest.raises(UserError, match="cannot be loaded as a data set"):
        read_sts(str(tmp_path / "nothing"), ["de"], 5)


def test_similarity_is_measured_with_and_without_control_tokens(
    inputs, model, tokenizer, anchors_and_projection, tmp_path
):
    save_cell(inputs["train"], "ecr", model, tokenizer, anchors_and_projection)
    anchors_and_projection[1].save(inputs["anchors"] / "projection")
    for lang in ("de", "en"):
        (tmp_path / "sts" / lang).mkdir(parents=True)
        (tmp_path / "sts" / lang / "test.jsonl").write_text("\n".join(json.dumps(row) for row in PAIRS))
    found = measured(inputs, sts_path=str(tmp_path / "sts"), sts_pairs=30)
    mean, de, en = (found["sts_spearman", None, lang] for lang in ("", "de", "en"))
    assert mean.n == 60 and de.n == en.n == 30
    assert mean.value == pytest.approx((de.value + en.value) / 2) and mean.null[1] < 0 < mean.null[2]
    assert found["sts_spearman_plain", None, ""].value != mean.value
