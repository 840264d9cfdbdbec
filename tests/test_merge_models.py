"""Models of two runs are compared by what they are: a folder may lie elsewhere, or hold something else by now."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ecr_bench.arm import Arm
from ecr_bench.config import load, parse
from ecr_bench.leaderboard.conflicts import conflicts
from ecr_bench.leaderboard.origins import models_of
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.registry import METHODS
from ecr_bench.outside import models_named
from ecr_bench.runner.plan import make_plan
from ecr_bench.section import Section
from tests.helpers.tiny_models import save

TINY = load("tiny").model_dump(mode="json")
TINY["geometry"]["measure"] = False
READERS = [{"method": name} for name in ("finetune", "ecr", "relational", "teacher-probe")]
DISTILLED = {"method": "finetune", "with": ["distill"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with tokenizers of their own, the first a second time, and one that becomes another."""
    root = tmp_path_factory.mktemp("models")
    for kind, name in (("llama", "one"), ("qwen2", "other")):
        save(kind, root / name)
    shutil.copytree(root / "one", root / "copy")
    return root


def sized(model: Path, **more: Any) -> dict[str, Any]:
    return {**TINY, "sizes": {"1x": {"model": str(model), "max_length": 128, **more}}}


Planned = tuple[Arm, str, dict[str, Any], dict[str, Any]]
"""An arm, the identity of what makes it, its experiment, and what its run would say of itself."""


def planned(experiment: Mapping[str, Any], spec: Mapping[str, Any]) -> Planned:
    found = parse({**copy.deepcopy(dict(experiment)), "cells": [{**spec, "sizes": ["1x"]}]}, "x")
    plan = make_plan(found)
    (cell,) = plan.cells
    identity = cell.train if METHODS.get(cell.arm.method).trains_model else f"{cell.anchors} {cell.items}"
    stages = plan.stages.values()
    told = {"fingerprints": {"models": models_named((stage.settings, stage.identity.settings) for stage in stages)}}
    return cell.arm, identity, found.model_dump(mode="json"), told


def found(one: Planned, other: Planned) -> list[str]:
    """Settings in which a merge says that they differ; they are of one name."""
    assert one[0] == other[0]
    return [
        ".".join(path) for path, *_ in conflicts(one[0], one[2], other[2], (models_of(one[3]), models_of(other[3])))
    ]


@pytest.mark.parametrize("spec", READERS, ids=lambda spec: spec["method"])
def test_a_model_is_another_where_its_content_is(folder: Path, spec: dict[str, Any]) -> None:
    usual = planned(sized(folder / "one"), spec)
    for name, changed, setting in (
        ("other model", sized(folder / "other"), "sizes.1x.model"),
        ("elsewhere", sized(folder / "copy"), None),
        ("vocabulary", sized(folder / "one", vocabulary="corpus"), "sizes.1x.vocabulary"),
        ("from scratch", TINY, "sizes.1x.model"),
        ("a tokenizer that nothing has", {**sized(folder / "one"), "tokenizer": {"vocab_size": 900}}, None),
    ):
        other = planned(changed, spec)
        for said in (found(usual, other), found(other, usual)):
            assert (setting in said) if setting else not said, name
        assert (usual[1] == other[1]) == (setting is None), name


@pytest.mark.parametrize("spec", [*READERS, DISTILLED], ids=str)
def test_a_folder_that_became_another_model_is_another(folder: Path, tmp_path: Path, spec: dict[str, Any]) -> None:
    shutil.copytree(folder / "one", live := tmp_path / "live")
    experiment = sized(live)
    if spec is DISTILLED:
        experiment = {**sized(folder / "one"), "options": {"distill": {"model": str(live)}}}
    before = planned(experiment, spec)
    shutil.rmtree(live)
    shutil.copytree(folder / "other", live)
    after = planned(experiment, spec)
    assert before[1] != after[1] and found(before, after)


def test_a_teacher_of_logits_that_lies_elsewhere_is_the_same(folder: Path) -> None:
    one, other = (
        planned({**sized(folder / "one"), "options": {"distill": {"model": str(folder / name)}}}, DISTILLED)
        for name in ("one", "copy")
    )
    assert one[1] == other[1] and not found(one, other)


def test_without_content_models_go_by_their_name(folder: Path) -> None:
    one, other = (planned(sized(folder / name), {"method": "finetune"}) for name in ("one", "copy"))
    assert found((*one[:3], {}), other) == ["sizes.1x.model"]


def test_a_run_can_be_told_when_its_folder_is_gone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "one", gone := tmp_path / "gone")
    kept = planned(sized(folder / "one"), {"method": "finetune"})
    plan = make_plan(parse({**sized(gone), "cells": [{"method": "finetune"}]}, "x"))
    shutil.rmtree(gone)
    told = models_named((stage.settings, stage.identity.settings) for stage in plan.stages.values())
    assert list(told.values()) == list(kept[3]["fingerprints"]["models"].values()) != []


@pytest.mark.parametrize("given", [
    {"sizes.1x.model": "LIVE"},
    {"sizes.1x.model": "LIVE", "sizes.1x.revision": "v1"},
    {"sizes.1x": {"model": "LIVE", "revision": "v1", "max_length": 128}},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("revision", ["", "main"])
def test_a_model_of_a_cell_counts_by_content_too(
    folder: Path, tmp_path: Path, given: dict[str, Any], revision: str
) -> None:
    """With the revision that the arm has it at; the experiment's own model says nothing of it."""
    live = tmp_path / "live"
    own = json.loads(json.dumps(given).replace("LIVE", str(live)))
    runs = []
    for content, other in (("one", "one"), ("one", "copy"), ("other", "one")):
        shutil.rmtree(live, ignore_errors=True)
        shutil.copytree(folder / content, live)
        runs.append(planned(sized(folder / other, revision=revision), {"method": "finetune", "set": own}))
    first, elsewhere, changed = runs
    assert first[1] == elsewhere[1] and not found(first, elsewhere)
    assert first[1] != changed[1] and found(first, changed)


def test_an_option_of_a_plugin_that_is_called_model_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Echo(Finetune):
        class Options(Section):
            model: str = ""

    monkeypatch.setitem(METHODS.entries, "echo", Echo)
    experiment = {**sized(folder / "one"), "options": {"echo": {"model": str(folder / "one")}}}
    cells = [{"method": name} for name in ("finetune", "echo")]
    plan = make_plan(parse({**experiment, "cells": cells}, "x"))
    told = models_named((stage.settings, stage.identity.settings) for stage in plan.stages.values())
    assert told == planned(sized(folder / "one"), {"method": "finetune"})[3]["fingerprints"]["models"] != {}
