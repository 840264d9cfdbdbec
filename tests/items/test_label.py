"""The pieces that carry the protocol to other corpora: task ``label``, corpus ``sib200``, teacher ``bag``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecr_bench.config import CorpusConfig, TeacherConfig
from ecr_bench.corpora.registry import build
from ecr_bench.errors import UserError
from ecr_bench.items.registry import build_items
from ecr_bench.items.surface import surface_baselines
from ecr_bench.teachers.registry import create
from ecr_bench.types import CORPUS_COLUMNS
from tests.helpers.outside import DATA

REAL = DATA / "sib200"
OUTDOORS, PEOPLE = ("travel", "geography", "nature", "culture"), ("health", "science", "sports", "politics")
TOPICS = {
    **{label: f"the river and the coast of {label}" for label in OUTDOORS},
    **{label: f"a team of doctors wins {label}" for label in PEOPLE},
}


def rows(labels: list[str]) -> pd.DataFrame:
    table = [
        (f"{split}-{label}-{i}", f"{TOPICS[label]} {split} {i}", "en", f"{split}{i}", label, f"{split}{i}", split, "{}")
        for split in ("train", "test")
        for label in labels
        for i in range(6)
    ]
    return pd.DataFrame(table, columns=list(CORPUS_COLUMNS))


def test_wrong_options_are_the_confusable_labels() -> None:
    items = build_items("label", rows(list(TOPICS)), split="test", languages=["en"], count=40, seed=0)
    assert len(items) == 40
    assert {frozenset(item.choices) for item in items} == {frozenset(OUTDOORS), frozenset(PEOPLE)}
    for item in items:
        assert item.task == "label" and item.question == "label:" and item.grain == "coarse"
        assert item.text.startswith(TOPICS[item.choices[item.gold]])


def test_under_four_labels_is_one_line() -> None:
    with pytest.raises(UserError, match=r"task 'label': the training split has 3 labels: needed are 4"):
        build_items("label", rows(list(TOPICS)[:3]), split="test", languages=["en"], count=4, seed=0)


def write_sib(folder: Path, lang: str, **lines: list[dict[str, Any]]) -> None:
    (folder / lang).mkdir(parents=True)
    for name in ("train", "dev", "test"):
        text = "\n".join(json.dumps(line) for line in lines.get(name, []))
        (folder / lang / f"{name}.jsonl").write_text(text + "\n")


def sib_row(number: int, text: str) -> dict[str, Any]:
    return {"index_id": str(number), "category": "travel", "text": text}


def config(path: Path | str, **changes: Any) -> CorpusConfig:
    return CorpusConfig(name="sib200", options={"path": str(path)}, **changes)


def test_sib200_keeps_its_own_splits(tmp_path: Path) -> None:
    for lang in ("en", "sw"):
        lines = {
            name: [sib_row(i + 10 * s, f"{lang} {name} {i}") for i in range(3)]
            for s, name in enumerate(("train", "dev", "test"))
        }
        write_sib(tmp_path, lang, **lines)
    corpus = build(config(tmp_path))
    assert corpus.card.languages == {lang: {"train": 3, "validation": 3, "test": 3} for lang in ("en", "sw")}
    frame = corpus.dataset.to_pandas()
    assert frame.groupby("unit")["split"].nunique().max() == 1
    assert (frame.groupby("meaning")["lang"].nunique() == 2).all()


def test_sib200_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.options\.path must be given for corpus 'sib200'"):
        build(CorpusConfig(name="sib200"))
    with pytest.raises(UserError, match="no such folder"):
        build(config(tmp_path / "none"))
    with pytest.raises(UserError, match=r"has no LANG/train\.jsonl"):
        build(config(tmp_path))
    write_sib(tmp_path, "en", train=[sib_row(1, "a"), {"text": "b"}])
    with pytest.raises(UserError, match=r"en/train\.jsonl:2: needs the keys text, category and index_id"):
        build(config(tmp_path))
    (tmp_path / "en" / "train.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"en/train\.jsonl:1: not JSON"):
        build(config(tmp_path))
    (tmp_path / "en" / "dev.jsonl").unlink()
    (tmp_path / "en" / "train.jsonl").write_text("")
    with pytest.raises(UserError, match=r"no such file: .*dev\.jsonl"):
        build(config(tmp_path))
    with pytest.raises(UserError, match="no language 'xx': allowed are en"):
        build(config(tmp_path, languages=("xx",)))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"SIB-200 is not at {REAL}")
def test_the_real_sib200_gives_items_that_the_surface_does_not_solve() -> None:
    frame = build(config(REAL, languages=("en", "de", "sw"))).dataset.to_pandas()
    made = {
        s: build_items("label", frame, split=s, languages=["de", "sw"], count=200, seed=0) for s in ("train", "test")
    }
    assert len(made["test"]) == 400
    surface = surface_baselines(made["test"], made["train"])["label"]["all"]
    assert all(score < 0.35 for score in surface.values()), surface


def test_bag_is_deterministic_and_reads_surface_only() -> None:
    teacher = create(TeacherConfig(name="bag"))
    texts = ["turn on the lamp", "turn on the lamps", "schalte das Licht ein", ""]
    vectors = teacher.embed(texts)
    assert vectors.shape == (4, 256) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5) and not vectors[3].any()
    assert np.array_equal(vectors, create(TeacherConfig(name="bag")).embed(texts))
    assert vectors[0] @ vectors[1] > 0.8 > 0.5 > vectors[0] @ vectors[2]
    other = create(TeacherConfig(name="bag", options={"seed": 1}))
    assert other.fingerprint != teacher.fingerprint and not np.allclose(other.embed(texts), vectors)
    with pytest.raises(UserError, match=r"teacher\.options\.size: teacher 'bag' has no such .* dim, seed"):
        create(TeacherConfig(name="bag", options={"size": 3}))
