"""A wrong key or value is one line that names it and what is allowed."""

from __future__ import annotations

import pytest
import yaml

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.runner.plan import make_plan
from ecr_bench.sizes import PretrainedSize
from ecr_bench.yaml_files import experiments
from tests.helpers.fake_hub import fake_hub

SHIPPED = [name for name in experiments() if not name.startswith("ablation-")]  # those: test_ablation.py


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_experiment_loads_and_plans(name, tmp_path, monkeypatch, tiny_folders):
    experiment, hub = config.load(name), fake_hub(tmp_path, monkeypatch)
    for size in experiment.sizes.values():
        if isinstance(size, PretrainedSize) and not size.model.startswith("package:"):
            hub.commit(size.model, tiny_folders["llama"])
    if experiment.teacher.name == "hf":
        hub.commit(experiment.teacher.options["model"], tiny_folders["encoder"])
    if experiment.corpus.name == "hub":
        hub.commit(experiment.corpus.options["path"], tiny_folders["data"], kind="dataset")
    plan = make_plan(experiment)
    assert plan.cells and all(need in plan.stages for s in plan.stages.values() for need in s.inputs.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"finetune.stepz": 1}, "unknown key 'finetune.stepz': allowed here are .*steps"),
        ({"nothing": 1}, "unknown key 'nothing': allowed here are .*finetune"),
        ({"finetune.steps.x": 1}, "it is a value"),
        (
            {"finetune.steps": 0},
            "finetune.steps: Input should be greater than or equal to 1 and less than or equal to 1",
        ),
        ({"sizes.1x.layers": 0}, r"1x.layers: Input should be greater than or equal to 1 and .* equal to 1000 \(got 0"),
        (
            {"finetune.clip": -1},
            r"finetune.clip: Input should be greater than 0 and less than or equal to 1000000000.0 ",
        ),
        ({"geometry.layer": -9999}, "greater than or equal to -1001 and less than or equal to 1000"),
        ({"precisions": ["fp8"]}, "'fp32', 'bf16', 'int8' or 'nf4'"),
        ({"control_tokens.placement": "middle"}, "'prefix', 'infix', 'suffix' or 'interleaved'"),
        ({"control_tokens.count": -1}, "control_tokens.count: .*greater than or equal to 0"),
        ({"anchors.k": 1}, "anchors.k"),
        ({"seen_languages": []}, "seen_languages: must not be empty"),
        ({"cells": []}, r"cells: must have at least 1 value \(got \(\)\)"),
        ({"sizes.1x.hidden_size": 33}, "multiple of 2 x heads"),
        ({"name": "../x"}, "name"),
    ],
)
def test_bad_overrides_name_key_and_allowed(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        config.load("tiny").with_overrides(overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("corpus.name", "intends", "unknown corpus 'intends': allowed are .*intents"),
        ("teacher.name", "gpt", "unknown teacher 'gpt': allowed are .*usem3"),
        ("tasks", ["sums"], "unknown task 'sums': allowed are .*intent"),
        ("cells", [{"method": "magic"}], "unknown method 'magic': allowed are .*ecr"),
        ("cells", [{"method": "ecr", "sizes": ["9x"]}], "size '9x'.*1x, 3x"),
        ("cells", [{"method": "ecr"}, {"method": "ecr"}], "cells named twice: ecr-1x-s0"),
        ("cells", [{"method": "ecr", "set": {"anchors.kk": 3}}], "unknown key 'anchors.kk'"),
        ("anchors.k", 4000, "anchors.k: 4000 anchors cannot be derived from teacher.rows = 400"),
        ("seen_languages", ["en", "xx"], "seen_languages: xx not in corpus.languages: en, de, ru, ja"),
    ],
)
def test_names_are_checked_before_anything_runs(key, value, message):
    with pytest.raises(UserError, match=message):
        make_plan(config.load("tiny").with_overrides({key: value}))


def test_broken_yaml_names_file_and_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\ncells: [\n")
    with pytest.raises(UserError, match=r"bad\.yaml:3: not YAML"):
        config.load(str(path))
    path.write_text("- 1\n")
    with pytest.raises(UserError, match="must be a mapping"):
        config.load(str(path))
    with pytest.raises(UserError, match="no such file"):
        config.load(str(tmp_path / "none.yaml"))


def test_the_users_file_is_part_of_a_stages_identity(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a", "lang": "en"}')
    experiment = config.load("tiny").with_overrides({"corpus.name": "files", "corpus.options": {"path": str(path)}})
    before = {cell.train for cell in make_plan(experiment).cells}
    assert before == {cell.train for cell in make_plan(experiment).cells}
    path.write_text('{"text": "b", "lang": "en"}')
    assert not before & {cell.train for cell in make_plan(experiment).cells}


def test_set_values_are_yaml():
    assert config.parse_set(["a.b=[1, 2]", "c=x=y"]) == {"a.b": [1, 2], "c": "x=y"}
    with pytest.raises(UserError, match="write key=value"):
        config.parse_set(["oops"])
    with pytest.raises(UserError, match="--set a:1: not YAML"):
        config.parse_set(["a=[1"])


def test_identity_changes_with_any_setting_but_the_name():
    quick = config.load("quick")
    assert quick.identity == quick.with_overrides({"name": "other"}).identity
    assert quick.identity != quick.with_overrides({"finetune.steps": 7}).identity


def test_plain_arms_do_not_depend_on_anchor_settings():
    """Changing the anchors must not retrain the plain arms, or arms would not be compared on equal models."""
    a = make_plan(config.load("quick"))
    b = make_plan(config.load("quick").with_overrides({"anchors.k": 64, "control_tokens.placement": "suffix"}))
    same = {c.label for c in a.cells} & {c.label for c in b.cells}
    ids = [{c.label: c.train for c in plan.cells} for plan in (a, b)]
    assert {label for label in same if ids[0][label] == ids[1][label]} == {
        "finetune-3x-s0", "finetune-3x-s1", "finetune-3x-s2",
    }  # fmt: skip


def test_arms_share_data_and_base_models():
    plan = make_plan(config.load("quick"))
    kinds = [stage.kind for stage in plan.stages.values()]
    assert [kinds.count(k) for k in ("corpus", "tokenizer", "items", "base", "anchors")] == [1, 1, 1, 2, 1]
    assert kinds.count("train") == kinds.count("score") == len(plan.cells) > 5


def test_shipped_yaml_is_documented_by_the_schema():
    raw = yaml.safe_load((config.shipped("baselines") / "quick.yaml").read_text())
    assert set(raw) <= set(config.Experiment.model_fields)
