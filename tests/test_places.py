"""Disks that are full or cannot be written to: one line at every stage, nothing half written, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecr_bench import config, system
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.publish import Execution, publish, run_and_publish
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from tests.helpers.disks import no_room, small_disk

SMALL = {
    "name": "small",
    "corpus": {"name": "files", "options": {"path": ""}},
    "seen_languages": ["en", "de"],
    "tasks": ["label"],
    "tokenizer": {"vocab_size": 300},
    "teacher": {"name": "bag", "rows": 100, "options": {"dim": 16}},
    "anchors": {"k": 4},
    "projection": {"options": {"rank": 4}},
    "control_tokens": {"count": 1},
    "precisions": ["fp32"],
    "sizes": {"1x": {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "max_length": 64}},
    "pretrain": {"steps": 1, "batch_size": 4},
    "finetune": {"steps": 1, "batch_size": 4, "items": 8},
    "scoring": {"items": 2},
    "geometry": {"per_language": 2, "snapshots": 1},
    "cells": [{"method": "ecr"}],
}
QUIET = Console(quiet=True)
posix = pytest.mark.skipif(system.resource is None, reason="no limits here")


def corpus(path: Path) -> Path:
    things = ["lamp", "door", "song", "rain", "room", "oven"]
    rows = [
        {"text": f"{lang} {thing} {i} {things[i % 6]}", "lang": lang, "label": thing, "meaning": f"{thing}{i}"}
        for thing in things
        for i in range(12)
        for lang in ("en", "de", "fr")
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def small(folder: Path, **more: Any) -> config.Experiment:
    named = {"name": "files", "options": {"path": str(corpus(folder / "rows.jsonl"))}}
    return config.parse({**SMALL, "corpus": named, **more}, "small")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))
    quiet_libraries()
    return make_plan(small(tmp_path))


def nothing(done: int, total: int) -> None:
    """No progress is shown."""


def refused(call: Any, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and "cannot write" in message and all(part in message for part in parts), message
    return message


@posix
@pytest.mark.slow
@pytest.mark.parametrize("room", [100, 4000])
def test_a_full_disk_at_every_stage(plan: Plan, tmp_path: Path, room: int) -> None:
    """Each stage is tried without room, then with."""
    store, failed = Store(tmp_path / "runs"), 0
    for stage in plan.stages.values():
        try:
            with no_room(room):
                run_stage(stage, store, nothing)
        except UserError as error:
            assert "cannot write" in str(error) and "\n" not in str(error), (stage.label, error)
            assert not store.done(stage.id) and not store.path(stage.id).exists()
            failed += 1
            run_stage(stage, store, nothing)
        assert store.done(stage.id)
    assert failed > (len(plan.stages) * 3 // 4 if room == 100 else 2)
    folder = tmp_path / "runs" / "small"
    with no_room(room):
        refused(lambda: publish(plan, store, folder), str(tmp_path))
    assert not (folder / "run.json").exists()
    assert publish(plan, store, folder).board.rows
    left = [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [8, 40, 120, 400])
def test_a_small_file_system_fills_up(plan: Plan, tmp_path: Path, kilobytes: int) -> None:
    """The same where the system itself says that there is no room: wherever that is, one line."""
    out = tmp_path / "disk"
    with small_disk(out, kilobytes) as mounted:
        if not mounted:
            pytest.skip("no right to mount")
        refused(lambda: run_and_publish(plan.experiment, Execution(out, QUIET, Local(1))), str(out), "no space left")
        assert not (out / "small" / "run.json").exists()
        assert not [path for path in out.rglob("done.json") if not path.stat().st_size]


def test_a_file_system_that_is_read_only_is_known_before(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "disk"
    with small_disk(out, 1000, read_only=True) as mounted:
        if not mounted:
            out = Path("/proc")
        with pytest.raises(UserError, match=rf"--out {out}/.*: cannot write there"):
            run_and_publish(plan.experiment, Execution(out, QUIET, Local(1)))


@posix
def test_a_full_cache_is_named(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    from ecr_bench.teachers.cache import embed_cached
    from tests.helpers.hash_teacher import HashTeacher

    with no_room(100):
        message = refused(lambda: embed_cached(HashTeacher(), [f"text {i}" for i in range(50)]))
    assert str(tmp_path / "cache") in message and "ECR_BENCH_CACHE" in message and not store.root.exists()
    assert len(embed_cached(HashTeacher(), [f"text {i}" for i in range(50)])) == 50


IMPOSSIBLE = ["/dev/null/x", "/proc/nothing/x", "FILE/x", "/dev/full/x", "x" * 300, "FOLDER", "/sys/x"]


@pytest.mark.parametrize("place", IMPOSSIBLE)
@pytest.mark.parametrize(
    "command",
    [
        ["board", "quick", "--out", "RUNS", "--format", "markdown", "--to", "PLACE"],
        ["board", "quick", "--out", "RUNS", "--format", "csv", "--to", "PLACE"],
        ["board", "quick", "--out", "RUNS", "--format", "parquet", "--to", "PLACE"],
        ["board", "quick", "--out", "RUNS", "--format", "model-index", "--cell", "ecr-1x", "--to", "PLACE"],
    ],
    ids=lambda command: command[5],
)
def test_what_cannot_be_written_is_one_line(
    command: list[str],
    place: str,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("mine")
    (tmp_path / "FOLDER").mkdir()
    given = [str(published) if part == "RUNS" else place if part == "PLACE" else part for part in command]
    with pytest.raises(SystemExit) as caught:
        main(given)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and "cannot write" in said and place[:50] in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "FOLDER"] and not list(
        (tmp_path / "FOLDER").iterdir()
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.helpers.world import finished, make

    out = tmp_path_factory.mktemp("runs")
    finished(out / "quick", make({"finetune-1x": 0.4, "ecr-1x": 0.7}, items=6, seeds=2))
    return out
