"""Rows on disk: the same as in memory, whatever is asked of them."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import Corpus, RawRow, from_rows
from ecr_bench.data.cutting import whole_texts
from ecr_bench.data.encode import Example
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.packed import PackedExamples, lengths_of, tokens_of
from ecr_bench.data.texts import WholeTexts


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return [Example(rng.integers(0, 2**31 - 1, n).tolist(), 1, int(3 * n)) for n in rng.integers(1, 30, 100)]


def test_the_same_rows(rows, tmp_path):
    packed = PackedExamples.of((rows[start : start + 7] for start in range(0, 100, 7)), tmp_path)
    assert list(packed) == rows and len(packed) == 100
    assert packed[-1] == rows[-1] and packed[3:9] == rows[3:9]
    with pytest.raises(IndexError):
        packed[100]
    assert (lengths_of(packed) == lengths_of(rows)).all() and (tokens_of(packed) == tokens_of(rows)).all()
    assert not list(tmp_path.iterdir())


def test_no_rows(tmp_path):
    assert list(PackedExamples.of([], tmp_path)) == []


def test_the_same_batches(rows, tmp_path):
    packed = PackedExamples.of([rows], tmp_path)
    one, other = (ExamplesDataModule(Mixture([], found, 1.0), [], 0, 8, 20, 0) for found in (rows, packed))
    assert one.batches == other.batches
    for mine, theirs in zip(one.train_dataloader(), other.train_dataloader(), strict=True):
        assert all((mine[name] == theirs[name]).all() for name in mine)


def test_texts_and_frames_are_those_of_the_whole_corpus(tmp_path):
    raw = [RawRow(f"text {i} ü", "de" if i % 3 else "en", f"m{i}", "label", f"u{i}") for i in range(200)]
    from_rows(raw, config=CorpusConfig(name="files"), source="here", licence="none").save(tmp_path / "corpus")
    corpus = Corpus.load(tmp_path / "corpus")
    frame = corpus.dataset.to_pandas()
    train = frame[frame.split == "train"]
    texts = WholeTexts.of(corpus)
    assert list(texts) == whole_texts(zip(train.text, train.lang, strict=True)) == texts[:]
    assert texts[-1] == texts[len(texts) - 1] == list(texts)[-1]
    held_out = corpus.frame("id", "lang", splits=["validation", "test"])
    assert held_out.equals(frame[frame.split != "train"][["id", "lang"]])
    for asked in ([5, 3], [199], [7, 7, 0, 150], []):
        assert corpus.at(asked, "text").text.tolist() == frame.text[asked].tolist()
