"""The stage of the anchors with more rows than it holds: the same files, nearly the same quality."""

from __future__ import annotations

import pytest

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.base import RawRow, from_rows
from ecr_bench.ecr import projection_table, rows, streamed
from ecr_bench.ecr.anchors import Anchors
from ecr_bench.sections import AnchorsConfig, ProjectionConfig
from ecr_bench.stages.anchors import AnchorsInputs, AnchorsSettings, AnchorsStage
from ecr_bench.stages.teacher import TeacherSettings


def test_above_the_limit(tmp_path, monkeypatch, tokenizer, sentences):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))
    raw = [RawRow(text, "en" if i % 2 else "de", f"m{i}", f"l{i % 3}", f"u{i}") for i, text in enumerate(sentences)]
    from_rows(raw, config=CorpusConfig(name="files"), source="here", licence="none").save(tmp_path / "corpus")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = AnchorsSettings(
        teacher=TeacherSettings(name="bag", options={"dim": 32}),
        rows=1000,
        anchors=AnchorsConfig(k=8),
        projection=ProjectionConfig(options={"rank": 16}),
        count=2,
    )
    found = {}
    for name, most in (("whole", rows.STREAMED), ("streamed", 100)):
        for module in (rows, projection_table):
            monkeypatch.setattr(module, "STREAMED", most)
        for module in (rows, projection_table, streamed):
            monkeypatch.setattr(module, "PART", 64)
        monkeypatch.setattr(streamed, "SAMPLE", 80)
        monkeypatch.setattr(streamed, "SAMPLE_ROWS", 10)
        (tmp_path / name).mkdir()
        found[name] = AnchorsStage.run(settings, AnchorsInputs(tmp_path, tmp_path), tmp_path / name, lambda *_: None)
        assert Anchors.load(tmp_path / name / "anchors").mini_batch == (name == "streamed")
    files = {name: sorted(path.name for path in (tmp_path / name).rglob("*")) for name in found}
    assert files["whole"] == files["streamed"]
    assert found["streamed"].quality["cosine"] == pytest.approx(found["whole"].quality["cosine"], abs=0.01)
    assert found["streamed"].quality["agreement"] > 0.5
