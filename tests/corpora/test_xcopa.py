"""Corpus ``xcopa`` and task ``copa``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.registry import build
from ecr_bench.errors import UserError
from ecr_bench.items.registry import build_items
from tests.helpers.outside import DATA

REAL = DATA / "xcopa"


def line(number: int, text: str, **changes) -> dict:
    record = {
        "premise": f"{text} happened {number} .",
        "choice1": f"one {text} {number}",
        "choice2": f"two {text} {number}",
    }
    return {**record, "question": ("cause", "effect")[number % 2], "label": number % 2, "idx": number, **changes}


def write(folder: Path, lang: str, val: list[dict], test: list[dict]) -> None:
    (folder / lang).mkdir(parents=True, exist_ok=True)
    for name, lines in (("val", val), ("test", test)):
        (folder / lang / f"{name}.jsonl").write_text("\n".join(json.dumps(record) for record in lines) + "\n")


def config(path: Path, **changes) -> CorpusConfig:
    return CorpusConfig(name="xcopa", options={"path": str(path)}, **changes)


@pytest.fixture
def folder(tmp_path):
    for lang in ("it", "zh"):
        write(tmp_path, lang, [line(i, f"{lang} val") for i in range(20)], [line(i, f"{lang} test") for i in range(12)])
    return tmp_path


def test_splits_are_by_item_and_the_same_in_every_language(folder):
    frame = build(config(folder)).dataset.to_pandas()
    assert frame.groupby("unit")["split"].nunique().max() == 1
    assert Counter(frame[frame.lang == "it"]["split"]) == {"train": 54, "validation": 6, "test": 36}
    assert (frame.groupby("meaning")["lang"].nunique() == 2).all()


def test_items_ask_for_the_right_choice(folder):
    frame = build(config(folder)).dataset.to_pandas()
    items = build_items("copa", frame, split="test", languages=["it", "zh"], count=10, seed=0)
    assert len(items) == 20 and {len(item.choices) for item in items} == {2}
    for item in items:
        number = int(item.text.split()[3])
        wanted = ("one", "two")[number % 2]
        assert item.choices[item.gold].startswith(wanted) and item.question == f"{('cause', 'effect')[number % 2]}:"
    assert Counter(item.question for item in items) == {"cause:": 10, "effect:": 10}
    assert 0 < sum(item.gold for item in items) < 20


def test_items_do_not_depend_on_the_order_of_rows(folder):
    frame = build(config(folder)).dataset.to_pandas()
    ask = {"split": "train", "languages": ["it", "zh"], "count": 8}
    expected = build_items("copa", frame, seed=0, **ask)
    assert build_items("copa", frame.sample(frac=1, random_state=1), seed=0, **ask) == expected
    assert build_items("copa", frame, seed=1, **ask) != expected


def test_bad_input_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"corpus\.options\.path must be given for corpus 'xcopa'"):
        build(CorpusConfig(name="xcopa"))
    write(folder, "it", [line(0, "x", label=2)], [])
    with pytest.raises(UserError, match="XCOPA it val-0: question must be one of cause, effect and label 0 or 1"):
        build(config(folder))
    write(folder, "it", [{"premise": "x"}], [])
    with pytest.raises(UserError, match=r"it/val\.jsonl:1: needs the keys premise, choice1"):
        build(config(folder))


def test_another_corpus_has_no_choices(folder):
    frame = build(config(folder)).dataset.to_pandas().assign(slots="{}")
    with pytest.raises(UserError, match="task 'copa': no test row has the slots right and wrong"):
        build_items("copa", frame, split="test", languages=["it"], count=5, seed=0)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"XCOPA is not at {REAL}")
def test_the_real_xcopa_is_read_whole():
    corpus = build(config(REAL))
    assert len(corpus.card.languages) == 11
    frame = corpus.dataset.to_pandas()
    items = build_items("copa", frame, split="test", languages=["et", "qu"], count=500, seed=0)
    assert len(items) > 950
    assert abs(sum(item.gold for item in items) / len(items) - 0.5) < 0.06
