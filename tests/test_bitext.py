"""Retrieval of translations on a file of one's own."""

from __future__ import annotations

import json

import pytest
import torch

from ecr_bench.bitext.retrieval import retrieve
from ecr_bench.cli import main
from ecr_bench.corpora.registry import build
from ecr_bench.errors import UserError
from ecr_bench.sections import CorpusConfig
from tests.helpers.commands import fails


@pytest.fixture
def file(tmp_path):
    rows = [
        {"text": f"{word} {number}", "lang": lang, "meaning": f"m{number}"}
        for number in range(12)
        for lang, word in (("en", "lamp"), ("de", "Lampe"), ("fr", "lampe"))
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def corpus_of(path):
    return build(CorpusConfig(name="files", options={"path": str(path)}))


def test_who_knows_the_meaning_finds_all_and_who_knows_the_language_none(file):
    def by_meaning(texts, langs):
        return torch.eye(12)[[int(text.split()[1]) for text in texts]]

    def by_language(texts, langs):
        return torch.eye(3)[[("en", "de", "fr").index(lang) for lang in langs]]

    def swapped(texts, langs):  # French 0 and 1 stand in each other's place
        at = [int(text.split()[1]) for text in texts]
        return torch.eye(12)[[1 - i if lang == "fr" and i < 2 else i for i, lang in zip(at, langs, strict=True)]]

    assert [(f.lang, f.pivot, f.pairs) for f in retrieve(corpus_of(file), by_meaning, 99)] == [
        ("de", "en", 12), ("fr", "en", 12),
    ]  # fmt: skip
    assert all(f.there == f.back == f.mutual == f.centred == 1 for f in retrieve(corpus_of(file), by_meaning, 99))
    assert all(f.there == f.back == f.mutual == 0 for f in retrieve(corpus_of(file), by_language, 99))
    german, french = retrieve(corpus_of(file), swapped, 99)
    assert german.there == 1 and french.there == pytest.approx(10 / 12) and french.interval.low < 10 / 12


def test_a_language_that_lies_elsewhere_is_found_when_it_is_centred(file):
    def shifted(texts, langs):
        moved = torch.tensor([[8.0 if lang == "de" else 0.0] for lang in langs])
        return torch.cat([torch.eye(12)[[int(text.split()[1]) for text in texts]], moved], 1)

    german = next(iter(retrieve(corpus_of(file), shifted, 99)))
    assert german.centred == 1


def test_the_command_prints_a_line_for_each_language(file, capsys):
    main(["bitext", str(file), "--teacher", "bag", "--pairs", "10"])
    printed = capsys.readouterr().out
    assert "de-en" in printed and "fr-en" in printed and "MEXA" in printed


def test_bad_input_is_one_line(file, tmp_path, capsys):
    alone = tmp_path / "alone.jsonl"
    alone.write_text('{"text": "a b", "lang": "en", "meaning": "1"}\n{"text": "c d", "lang": "de", "meaning": "2"}\n')
    with pytest.raises(UserError, match="no two rows of different languages have the same meaning"):
        list(retrieve(corpus_of(alone), lambda *_: torch.zeros(0), 9))
    assert "--pairs 1: must be 2 or more" in fails(capsys, "bitext", str(file), "--pairs", "1")
    assert "unknown teacher 'who'" in fails(capsys, "bitext", str(file), "--teacher", "who")
    assert "no such file" in fails(capsys, "bitext", str(tmp_path / "none.jsonl"))
