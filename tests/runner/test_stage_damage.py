"""Every file that any kind of stage leaves in the store, damaged in every way: named, and made again as it was."""

from __future__ import annotations

import io
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console

from ecr_bench import stages
from ecr_bench.config import Experiment, load
from ecr_bench.io import sha256
from ecr_bench.runner.execute import execute
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import DONE, Store
from ecr_bench.stages.work import Work
from tests.helpers import planned
from tests.helpers.damage import DAMAGES, damaged
from tests.helpers.tiny_models import save

OF_PRETRAINED = {"compress", "teacher-layer"}
SHORT = {"pretrain.steps": 2, "pretrain.batch_size": 6, "finetune.steps": 2, "precisions": ["fp32"]}


def kinds() -> set[str]:
    for module in pkgutil.iter_modules(stages.__path__, f"{stages.__name__}."):
        import_module(module.name)
    return {work.kind for work in Work.__subclasses__() if work.__module__.startswith(f"{stages.__name__}.")}


def from_scratch(tmp_path: Path) -> Experiment:
    return planned.experiment().with_overrides({"scoring.unconditional": True})


def compressed(tmp_path: Path) -> Experiment:
    model = str(save("gemma3", tmp_path / "gemma", layers=4))
    small = {
        "corpus.rows": 2000,
        "anchors.k": 16,
        "corpus.languages": ["en", "de", "ru"],
        "seen_languages": ["en"],
        **SHORT,
    }
    sizes = {"sizes.1x.model": model, "sizes.3x.model": model, "sizes.1x.layers": 2}
    teacher = {
        "name": "checkpoint",
        "rows": 200,
        "options": {"size": "3x", "state": "pretrained", "layer": "retrieval"},
    }
    return load("compressed").with_overrides(
        {**small, **sizes, "teacher": teacher, "tuned": [], "cells": [{"method": "ecr"}], "tasks": ["intent"]}
    )


def run(plan: Plan, store: Store) -> str:
    said = io.StringIO()
    execute(plan.stages, store, Console(file=said, width=500), Local(1), whole=True).raise_first()
    return said.getvalue()


def files(store: Store, stage_id: str) -> list[Path]:
    return sorted(path for path in store.path(stage_id).rglob("*") if path.is_file())


def contents(store: Store, stage_id: str) -> dict[str, str]:
    """Without what holds the time of day: the record of the stage, and curves."""
    found = (path for path in files(store, stage_id) if path.name != DONE and "tfevents" not in path.name)
    return {path.relative_to(store.root).as_posix(): sha256(path) for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("made", [from_scratch, compressed])
def test_every_file_of_every_kind_of_stage(made, tmp_path):
    plan, store = make_plan(made(tmp_path)), Store(tmp_path / "runs")
    run(plan, store)
    of_kind = {stage.kind: stage.id for stage in plan.stages.values()}
    assert set(of_kind) >= kinds() - OF_PRETRAINED if made is from_scratch else set(of_kind) >= OF_PRETRAINED
    cases = 0
    for stage_id in of_kind.values():
        for path in files(store, stage_id):
            for damage in DAMAGES:
                if damage == "cut to half" and path.stat().st_size == 0:
                    continue
                with damaged(path, damage):
                    said = store.damage(stage_id, whole=True)
                assert str(path) in said and "\n" not in said, (path, damage, said)
                cases += 1
        assert store.damage(stage_id, whole=True) == ""
    assert cases >= 135
    _made_again(plan, store, list(of_kind.values()))


def _made_again(plan: Plan, store: Store, stage_ids: list[str]) -> None:
    """One stage of every kind is damaged; one run sets them aside and makes them as they were."""
    before = {stage_id: contents(store, stage_id) for stage_id in stage_ids}
    results = {stage_id: store.result(stage_id) for stage_id in stage_ids}
    hurt = [
        max(files(store, stage_id), key=lambda path: (path.name != DONE, path.stat().st_size)) for stage_id in stage_ids
    ]
    for path in hurt:
        DAMAGES["a byte flipped"](path)
    said = run(plan, store)
    lost = [path for path in hurt if not re.search(rf"{re.escape(str(path))}(:\d+)?: .*; set aside in", said)]
    assert not lost, said
    for stage_id in stage_ids:
        assert contents(store, stage_id) == before[stage_id], stage_id
        if stage_id.split("/")[0] not in ("score", "train", "base"):  # these say how long they took
            assert store.result(stage_id) == results[stage_id]
