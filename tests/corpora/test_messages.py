"""The interface-message corpus, on a small wheel made here; nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora import messages
from ecr_bench.corpora.messages import clean, drop_repeated, kind, read_wheel
from ecr_bench.corpora.registry import build
from ecr_bench.corpora.wheel import Wheel
from ecr_bench.errors import UserError
from ecr_bench.source_code import Code

EN = {
    "config": {
        "step": {"user": {"description": "Enter the address of {device} here now", "data": {"host": "Host"}}},
        "error": {"cannot_connect": "The device number {n} cannot be reached"},
    },
    "services": {"go": {"description": "Starts the machine of this unit"}},
}
DE = {
    "config": {
        "step": {"user": {"description": "Gib die Adresse von {device} ein", "data": {"host": "Gastgeber"}}},
        "error": {"cannot_connect": "The device number {n} cannot be reached"},
    },
    "services": {"go": {"description": "Startet die Maschine"}},
}
ZH = {"services": {"go": {"description": "启动机器"}}}


def _wheel(path: Path, units: int = 1) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for unit in range(units):
            for file, content in (("en", EN), ("de", DE), ("zh-Hans", ZH), ("tlh", DE)):
                text = json.dumps(content, ensure_ascii=False)
                for word in ("machine", "Maschine", "机器"):
                    text = text.replace(word, f"{word} {unit}")
                archive.writestr(f"homeassistant/components/unit{unit}/translations/{file}.json", text)
        archive.writestr("homeassistant/components/unit0/strings.json", "{}")
    return path


def test_messages_are_aligned_labelled_and_filtered(tmp_path: Path) -> None:
    rows = list(read_wheel(_wheel(tmp_path / "w.whl")))
    found = {(row.lang, row.meaning): row for row in rows}
    assert set(found) == {
        ("en", "unit0.config.step.user.description"),
        ("de", "unit0.config.step.user.description"),
        ("en", "unit0.config.error.cannot_connect"),  # German is an untranslated copy
        ("en", "unit0.services.go.description"),
        ("de", "unit0.services.go.description"),
        ("zh", "unit0.services.go.description"),
    }
    row = found["de", "unit0.config.step.user.description"]
    assert (row.text, row.label, row.unit) == ("Gib die Adresse von ein", "step description", "unit0")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Set {a} to {b}, please", "Set to, please"),
        ("See [the docs]({url}) now", "See the docs now"),
        ("[%key:common::x%] Failed", "Failed"),
        ("**Press**\n`start` <b>twice</b>", "Press start twice"),
        ("Value ({unit}) is bad", "Value is bad"),
        ("见 https://a.b/c 说明", "见 说明"),
    ],
)
def test_placeholders_links_and_markup_are_stripped(raw: str, text: str) -> None:
    assert clean(raw) == text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("config.error.x", "error"),
        ("config.abort.x", "abort"),
        ("options.step.init.data_description.x", "field help"),
        ("services.x.description", "service description"),
        ("services.x.fields.y.description", "service field"),
        ("issues.x.title", "issue"),
        ("exceptions.x.message", "exception"),
        ("entity.sensor.x.name", "entity name"),
        ("entity.sensor.x.state.y", "entity state"),
        ("triggers.x.description", "trigger"),
        ("title", "other"),
    ],
)
def test_kind_is_read_from_the_key_path(path: str, name: str) -> None:
    assert kind(tuple(path.split("."))) == name


def test_one_key_stays_for_each_english_text(tmp_path: Path) -> None:
    kept, dropped = drop_repeated(read_wheel(_wheel(tmp_path / "w.whl", units=3)))
    english = [row.text for row in kept if row.lang == "en"]
    assert len(english) == len(set(english)) == 5
    assert {row.unit for row in kept} == {"unit0", "unit1", "unit2"}
    assert dropped == 6  # two repeated keys in English, one of them in German too, in two units


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A small wheel in the place of the real one, already in an empty cache."""
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))
    made = _wheel(tmp_path / "w.whl", units=40)
    wheel = Wheel("homeassistant", "0", "3.14", hashlib.sha256(made.read_bytes()).hexdigest())
    wheel.path.parent.mkdir(parents=True)
    made.rename(wheel.path)
    monkeypatch.setattr(messages, "WHEEL", wheel)
    return wheel


def test_corpus_splits_by_integration_and_reads_the_wheel_once(small: Wheel) -> None:
    corpus = build(CorpusConfig(name="messages"))
    splits: dict[str, set[str]] = {}
    for row in corpus.dataset:
        splits.setdefault(row["unit"], set()).add(row["split"])
    assert len(splits) == 40
    assert all(len(found) == 1 for found in splits.values())
    assert set(corpus.card.languages) == {"en", "de", "zh"}
    assert corpus.card.duplicates_dropped == 39 * 3
    small.path.unlink()
    assert build(CorpusConfig(name="messages")).card == corpus.card


def test_a_wheel_with_another_hash_is_refused(small: Wheel) -> None:
    small.path.write_bytes(b"something else")
    with pytest.raises(UserError, match="SHA-256"):
        build(CorpusConfig(name="messages"))


def test_offline_says_where_to_put_the_wheel(small: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    small.path.unlink()

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(UserError) as caught:
        build(CorpusConfig(name="messages"))
    assert "cannot fetch homeassistant==0 (No matching distribution found)" in str(caught.value)
    assert str(small.path) in str(caught.value)
    assert list(small.path.parent.iterdir()) == []


def test_a_download_is_kept_in_the_cache(small: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    content = small.path.read_bytes()
    small.path.unlink()

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / small.path.name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    assert small.fetch().read_bytes() == content


def test_what_was_extracted_is_extracted_again_by_other_code(small: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    plain = messages.read_wheel
    monkeypatch.setattr(messages, "read_wheel", lambda path: (calls.append(path), plain(path))[1])
    for code, extracted in (({"a": "1"}, 1), ({"a": "1"}, 1), ({"a": "2"}, 2)):
        monkeypatch.setattr(messages, "code_of", lambda modules, code=code: Code(code, {}))
        build(CorpusConfig(name="messages"))
        assert len(calls) == extracted
