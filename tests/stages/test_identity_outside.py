"""Folders, files and names on the hub: content and commits decide the ids of stages, places and times do not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ecr_bench.errors import UserError
from ecr_bench.runner import provenance as provenance_module
from ecr_bench.runner.plan import make_plan
from ecr_bench.sizes import PretrainedSize
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create
from tests.helpers.fake_hub import COMMITS, fake_hub
from tests.helpers.planned import CELLS, Stages, changed, experiment, kinds, laid_out, own_changes, with_what_rests_on


def replace_weights(folder: Path) -> None:
    """Other numbers of the same shape, in a file of the same size and time."""
    path = folder / "model.safetensors"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    size, weights = path.stat().st_size, load_file(path)
    weights = {name: tensor + 1 for name, tensor in weights.items()}
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})
    os.utime(path, ns=times)
    assert path.stat().st_size == size


@dataclass(frozen=True)
class Outside:
    """Something an experiment names."""

    folder: str
    """Of ``tiny_folders``."""
    settings: Callable[[str], dict[str, Any]]
    """Overrides, from its place or name."""
    own: set[str]
    """Kinds of the stages that read it."""
    edit: Callable[[Path], None]
    kind: str = "model"


def size_of(model: str) -> dict[str, Any]:
    return {"sizes": {"1x": {"model": model, "max_length": 64}}, "pretrain.steps": 0, "cells": CELLS[:2]}


def teacher_of(model: str) -> dict[str, Any]:
    return {"teacher": {"name": "hf", "rows": 400, "options": {"model": model}}}


def corpus_of(path: str) -> dict[str, Any]:
    return {"corpus": {"name": "hub", "options": {"path": path}}}


def edit_data(folder: Path) -> None:
    path = next(folder.rglob("*.arrow"))
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def sts_of(path: str) -> dict[str, Any]:
    return {"geometry.sts_path": path}


OUTSIDE = {
    "teacher": Outside("encoder", teacher_of, {"anchors", "parallel", "train", "translations"}, replace_weights),
    "pretrained size": Outside("llama", size_of, {"tokenizer", "base"}, replace_weights),
    "data set": Outside("data", corpus_of, {"corpus"}, edit_data, "dataset"),
    "similarity set": Outside("data", sts_of, {"geometry"}, edit_data, "dataset"),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_content_of_a_folder_counts_and_neither_its_place_nor_its_time(what, tmp_path, tiny_folders):
    case = OUTSIDE[what]
    here = Path(shutil.copytree(tiny_folders[case.folder], tmp_path / "here"))
    exp = experiment().with_overrides(case.settings(str(here)))
    before = unlabelled(laid_out(exp), here)

    for path in here.rglob("*"):
        os.utime(path, (1, 1))
    assert not changed(before, unlabelled(laid_out(exp), here))
    there = Path(shutil.copytree(here, tmp_path / "elsewhere" / "there"))
    moved = experiment().with_overrides(case.settings(str(there)))
    assert not changed(before, unlabelled(laid_out(moved), there))

    case.edit(here)
    after = unlabelled(laid_out(exp), here)
    own = own_changes(before, after)
    assert kinds(own) == case.own
    assert changed(before, after) == with_what_rests_on(before, own)


def unlabelled(stages: Stages, folder: Path | str) -> Stages:
    """Without the place in the labels."""
    return {(kind, label.replace(str(folder), "HERE")): stage for (kind, label), stage in stages.items()}


@pytest.mark.parametrize("what", OUTSIDE)
def test_a_name_on_the_hub_counts_by_the_commit_it_is_at(what, tmp_path, tiny_folders, monkeypatch):
    case, hub = OUTSIDE[what], fake_hub(tmp_path / "hub", monkeypatch)
    name = "somebody/something"
    exp = experiment().with_overrides(case.settings(name))
    hub.commit(name, tiny_folders[case.folder], COMMITS[0], kind=case.kind)
    before = laid_out(exp)
    pinned = [stage.identity.pinned for stage in before.values()]
    assert set().union(*pinned) == {f"{name}@{COMMITS[0]}"}

    hub.commit(name, tiny_folders[case.folder], COMMITS[1], kind=case.kind)
    after = laid_out(exp)
    own = own_changes(before, after)
    assert kinds(own) == case.own
    assert changed(before, after) == with_what_rests_on(before, own)
    hub.move(name, COMMITS[0], kind=case.kind)
    assert not changed(before, laid_out(exp))


REVISION = {
    "teacher": "teacher.options.revision",
    "pretrained size": "sizes.1x.revision",
    "data set": "corpus.options.revision",
    "similarity set": "geometry.sts_revision",
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_a_revision_pins_a_commit(what, tmp_path, tiny_folders, monkeypatch):
    case, hub, name = OUTSIDE[what], fake_hub(tmp_path / "hub", monkeypatch), "somebody/something"
    hub.commit(name, tiny_folders[case.folder], COMMITS[0], kind=case.kind)
    hub.move(name, COMMITS[0], "v1", kind=case.kind)
    exp = experiment().with_overrides(case.settings(name))
    before = laid_out(exp)
    by_branch = exp.with_overrides({REVISION[what]: "v1"})
    by_commit = exp.with_overrides({REVISION[what]: COMMITS[0]})
    hub.commit(name, tiny_folders[case.folder], COMMITS[1], kind=case.kind)
    assert changed(before, laid_out(exp))
    assert not changed(before, laid_out(by_branch)) and not changed(before, laid_out(by_commit))
    with pytest.raises(UserError, match=r"has no revision 'v2' in the local cache: it has .*main, v1"):
        make_plan(exp.with_overrides({REVISION[what]: "v2"}))


def test_every_hub_name_of_the_schema_has_a_revision():
    assert "revision" in PretrainedSize.model_fields and set(REVISION) == set(OUTSIDE)


def test_two_commits_of_a_teacher_have_two_embedding_caches(tmp_path, tiny_folders, monkeypatch):
    hub, name = fake_hub(tmp_path / "hub", monkeypatch), "somebody/encoder"
    other = Path(shutil.copytree(tiny_folders["encoder"], tmp_path / "other"))
    replace_weights(other)
    exp = experiment().with_overrides(teacher_of(name))
    vectors = []
    for commit, folder in zip(COMMITS, (tiny_folders["encoder"], other), strict=False):
        hub.commit(name, folder, commit)
        vectors.append(embed_cached(create(exp.teacher), ["alarmde1", "dooren2"], tmp_path / "cache"))
    assert len(list((tmp_path / "cache" / "embeddings").iterdir())) == 2
    assert abs(vectors[0] - vectors[1]).max() > 1e-3  # and each reads its own weights


def test_replaced_weights_of_a_teacher_have_another_embedding_cache(tmp_path, tiny_folders):
    folder = Path(shutil.copytree(tiny_folders["encoder"], tmp_path / "encoder"))
    teacher = experiment().with_overrides(teacher_of(str(folder))).teacher
    before = create(teacher).fingerprint
    replace_weights(folder)
    assert create(teacher).fingerprint != before


def test_the_commits_read_stand_in_the_provenance(tmp_path, tiny_folders, monkeypatch):
    from ecr_bench.publish import _pinned

    hub = fake_hub(tmp_path / "hub", monkeypatch)
    hub.commit("somebody/encoder", tiny_folders["encoder"], COMMITS[2])
    hub.commit("somebody/data", tiny_folders["data"], COMMITS[3], kind="dataset")
    exp = experiment().with_overrides(teacher_of("somebody/encoder") | corpus_of("somebody/data"))
    told = provenance_module.provenance(exp, _pinned(make_plan(exp)))
    assert told["hub"] == [f"somebody/data@{COMMITS[3]}", f"somebody/encoder@{COMMITS[2]}"]
    assert "hub" not in provenance_module.provenance(experiment(), _pinned(make_plan(experiment())))


def test_a_data_file_counts_by_content(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,lang,label\na,en,x\n")
    exp = experiment().with_overrides({"corpus": {"name": "files", "options": {"path": str(path)}}})
    before = laid_out(exp)
    path.write_text("text,lang,label\nb,en,x\n")
    after = laid_out(exp)
    own = own_changes(before, after)
    assert kinds(own) == {"corpus"} and changed(before, after) == with_what_rests_on(before, own)
    assert changed(before, after) == before.keys()
