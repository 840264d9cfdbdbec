"""Shared by the tests of stages."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ecr_bench.data.parallel import parallel_rows
from ecr_bench.evaluation.records import write_records
from ecr_bench.items.files import write_items
from tests.conftest import WORDS
from tests.helpers.measuring import LANGS, item, records


@pytest.fixture(scope="module")
def frame(sentences):
    """Forty meanings in three languages, all held out; a 'translation' is the sentence and a language tag."""
    rows = [
        (f"{sentence} {lang}", lang, f"m{i}", WORDS[i % 4], f"{lang}{i}")
        for i, sentence in enumerate(dict.fromkeys(sentences[:60]))
        for lang in LANGS
    ][: 40 * 3]
    data = pd.DataFrame(rows, columns=["text", "lang", "meaning", "label", "id"])
    return parallel_rows(data.assign(split="test", unit=data["meaning"], slots="{}"), 30)


@pytest.fixture
def inputs(tmp_path, frame, model, tokenizer):
    """Folders as the other stages leave them, for a plain cell whose training changed nothing."""
    folders = {name: tmp_path / name for name in ("parallel", "train", "base", "items", "score", "anchors", "out")}
    for folder in folders.values():
        folder.mkdir()
    frame.to_parquet(folders["parallel"] / "rows.parquet")
    teacher = torch.randn(len(frame), 6, generator=torch.Generator().manual_seed(0))
    save_file({"vectors": teacher}, folders["parallel"] / "teacher.safetensors")
    (folders["parallel"] / "languages.json").write_text(json.dumps(LANGS))
    model.save_pretrained(folders["base"] / "model")
    tokenizer.save_pretrained(folders["base"] / "model")
    items = [item("intent", lang, meaning) for meaning in range(6) for lang in LANGS]
    write_items(folders["items"] / "test", items)
    write_records(folders["score"] / "records.parquet", records(items))
    return folders
