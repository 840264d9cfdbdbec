"""The store and the executor: whole or nothing, shared stages once, resume, one line for a failing stage."""

from __future__ import annotations

import dataclasses
import errno
import io
import math

import pytest
from rich.console import Console

from ecr_bench.config import load
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, atomic_path, fingerprint, read_json, write_json, write_text
from ecr_bench.runner.execute import critical_path, execute
from ecr_bench.runner.perform import perform, run_stage
from ecr_bench.runner.plan import Stage, make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.ran import Ran
from ecr_bench.runner.store import Store
from ecr_bench.stages.corpus import CorpusSettings, CorpusStage
from ecr_bench.stages.items import ItemsStage


def test_an_interrupted_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_dir(tmp_path / "a") as folder:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "b") as path:
        path.write_text("x")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_readonly_disk_is_one_line_and_nothing_half_written(tmp_path, code):
    with pytest.raises(UserError, match=r"cannot write .*target: .*--out") as caught, atomic_dir(tmp_path / "target"):
        raise OSError(code, "disk")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("message", ["I/O error: No space left on device (os error 28)"])
def test_a_full_disk_reported_by_a_rust_library_is_one_line_too(tmp_path, message):
    with pytest.raises(UserError, match="no space left"), atomic_dir(tmp_path / "target"):
        raise Exception(message)
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "file" / "x.md", "text")


def test_json_errors_name_file_and_line(tmp_path):
    (tmp_path / "bad.json").write_text('{\n"a": }')
    with pytest.raises(UserError, match=r"bad\.json:2: not JSON"):
        read_json(tmp_path / "bad.json")
    write_json(tmp_path / "good.json", {"é": 1})
    assert read_json(tmp_path / "good.json") == {"é": 1}


def test_fingerprints_do_not_depend_on_key_order():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1}) != fingerprint({"a": 2})


def test_a_stage_counts_only_when_its_marker_is_there(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="boom"):
        store.write("corpus/x", lambda folder: (_ for _ in ()).throw(ValueError("boom")))
    assert not store.done("corpus/x") and not (tmp_path / "store" / "corpus").exists() and not list(store.workplaces())
    store.write("corpus/x", lambda folder: {"spec": {"a": 1}, "result": {"rows": 3}})
    assert store.done("corpus/x") and store.result("corpus/x") == {"rows": 3}


def test_a_stage_that_is_done_does_not_run_again(tmp_path):
    stage = Stage(CorpusStage, "corpus", CorpusSettings(options={"no": "such"}))
    Store(tmp_path).write(stage.id, lambda folder: {"result": {"rows": 1}})
    assert run_stage(stage, Store(tmp_path), lambda done, total: None) == {"rows": 1}


def test_long_chains_go_first():
    plan = make_plan(load("quick"))
    length = critical_path(plan.stages)
    bases = {stage.label: length[stage.id] for stage in plan.stages.values() if stage.kind == "base"}
    assert bases["pre-train base 3x"] > bases["pre-train base 1x for ecr"]
    later = [(length[s.id], length[n]) for s in plan.stages.values() for n in s.inputs.values()]
    assert all(own < needed or math.isinf(needed) for own, needed in later)  # what is urgent, and its needs, go first


@pytest.mark.slow
def test_a_failing_stage_takes_only_what_rests_on_it_along(tmp_path):
    kinds = ("corpus", "tokenizer", "items")
    experiment = load("tiny").with_overrides({"corpus.languages": [], "seen_languages": ["en", "xx"]})
    broken = {s.id: s for s in make_plan(experiment).stages.values() if s.kind in kinds}
    output = io.StringIO()
    with pytest.raises(UserError, match="seen_languages: no text in xx"):
        execute(broken, Store(tmp_path), Console(file=output), Local(1)).raise_first()
    assert {path.parent.parent.name for path in tmp_path.rglob("done.json")} == {"corpus", "tokenizer"}
    # what was finished is kept, and the next run says so
    fixed = make_plan(experiment.with_overrides({"seen_languages": ["en"]}))
    stages = {s.id: s for s in fixed.stages.values() if s.kind in kinds}
    execute(stages, Store(tmp_path), Console(file=output), Local(1))
    assert "3 stages: 2 cached, 1 to run" in output.getvalue()
    items = next(s for s in stages.values() if s.kind == "items")
    assert Store(tmp_path).read(ItemsStage, items.id).test > 0
    ran = Ran.model_validate(Store(tmp_path).record(items.id)["ran"])
    assert ran.host and ran.cpu and ran.device is None and ran.seconds > 0 and ran.packages["pandas"]
    assert ran.peak_memory and ran.peak_memory > 10**6


def test_a_size_may_have_a_learning_rate_of_its_own():
    cells = [{"method": "finetune", "sizes": ["1x", "3x"]}]
    experiment = load("tiny").with_overrides({"sizes.3x.learning_rate": 0.5, "cells": cells})
    plan = make_plan(experiment)
    stages = {"pretrain": "base", "finetune": "train"}
    rates = {
        cell.arm.size: [
            getattr(plan.stages[getattr(cell, role)].settings, stage).learning_rate for stage, role in stages.items()
        ]
        for cell in plan.cells
    }
    assert rates == {"1x": [experiment.pretrain.learning_rate, experiment.finetune.learning_rate], "3x": [0.5, 0.5]}


def test_code_that_changes_under_a_run_is_named_and_nothing_is_stored(tmp_path):
    stage = Stage(CorpusStage, "corpus", CorpusSettings())
    planned = dataclasses.replace(
        stage.identity,
        files={**stage.identity.files, "ecr_bench.corpora.base": "0", "ecr_bench.new": "1"},
        packages={**stage.identity.packages, "hassil": "1.0"},
        device="cuda",
    )
    message = (
        r"file ecr_bench.corpora.base, file ecr_bench.new, package hassil \(1.0, now .*\), device \(cuda, now None"
    )
    with pytest.raises(UserError, match=message):
        perform(stage, planned, Store(tmp_path), lambda done, total: None)
    assert not list(tmp_path.iterdir())


def test_anchors_are_drawn_anew_for_each_seed_when_asked() -> None:
    cells = [{"method": "ecr", "seeds": [0, 1]}]
    shared = make_plan(load("tiny").with_overrides({"cells": cells}, "here"))
    own = make_plan(load("tiny").with_overrides({"cells": cells, "anchors.seed_per_cell": True}, "here"))
    assert len({cell.anchors for cell in shared.cells}) == 1
    assert [own.stages[str(cell.anchors)].settings.anchors.seed for cell in own.cells] == [0, 1]
    # the first draw is the shared one: the same stage, computed once
    assert own.cells[0].anchors == shared.cells[0].anchors
