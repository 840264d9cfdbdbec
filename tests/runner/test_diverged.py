"""Numbers that are not finite: the cell is marked, has no accuracy, and what rests on it says why; others are sound."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from ecr_bench.bundle.export import export
from ecr_bench.bundle.files import write_meta
from ecr_bench.bundle.use import open_bundle
from ecr_bench.cli import main
from ecr_bench.config import ProjectionConfig, load
from ecr_bench.divergence import KEY, DivergedError, after_training, broken_parameter, check_finite, inherited
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import fit_projection, load_projection
from ecr_bench.errors import UserError
from ecr_bench.evaluation import scorers
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import read_records
from ecr_bench.evaluation.run import evaluate, load_item_tasks
from ecr_bench.items.files import write_items
from ecr_bench.methods.pretrained import load_pretrained
from ecr_bench.methods.teacher_logits import load_teacher
from ecr_bench.precision import PRECISIONS
from ecr_bench.publish import publish
from ecr_bench.quiet import quiet_libraries
from ecr_bench.report.terminal import print_run
from ecr_bench.run import Run
from ecr_bench.runner.execute import execute
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from ecr_bench.sizes import PretrainedSize
from ecr_bench.stages.score import ScoreInputs, ScoreSettings, ScoreStage
from ecr_bench.types import Item
from ecr_bench.verify import verify
from tests.bundle.test_damage import META_OF
from tests.helpers.public_sets import write_set

FAST = {"finetune.learning_rate": 1e6}
BROKEN_BASE = {"pretrain.learning_rate": 1e6}
GROUPS: list[dict[str, Any]] = [
    {"method": "finetune"},
    {"method": "ecr"},
    {"method": "ecr", "set": FAST},
    {"method": "finetune", "with": ["distill"], "set": FAST},
    {"method": "finetune", "with": [{"distill": {"cache_top_k": 4}}], "set": FAST},
    {"method": "ecr", "set": {**BROKEN_BASE, "projection.kind": "hidden"}},
    {"method": "teacher-probe", "set": {**BROKEN_BASE, "projection.kind": "hidden"}},
    {"method": "ecr", "set": {**FAST, "teacher": {"name": "checkpoint", "rows": 200, "options": {"size": "3x"}}}},
]
SOUND = ("finetune-1x-s0", "ecr-1x-s0")


class Done(NamedTuple):
    out: Path
    run: Run
    store: Store


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run in which training, pre-training, a teacher and an encoder diverge, each in cells of its own."""
    quiet_libraries()
    out = tmp_path_factory.mktemp("runs")
    settings = {"teacher.name": "bag", "teacher.rows": 200, "precisions": ["fp32", "int8"], "scoring.items": 3}
    experiment = load("tiny").with_overrides({**settings, "cells": GROUPS, "name": "diverging"})
    plan, store = make_plan(experiment), Store(out)
    execute(plan.stages, store, Console(file=io.StringIO()), Local(1))
    publish(plan, store, out / "diverging")
    return Done(out, Run.load(out / "diverging"), store)


def reasons(run: Run) -> dict[str, str]:
    return {row.cell: row.reason for row in run.board.diverged}


@pytest.mark.slow
def test_each_cell_that_diverged_says_why_and_the_others_are_sound(done: Done) -> None:
    found = reasons(done.run)
    labels = list(dict.fromkeys(row.cell for row in done.run.cells))
    assert [label for label in labels if label not in found] == list(SOUND)
    by_group = dict(zip(labels[2:], GROUPS[2:], strict=True))
    for label, group in by_group.items():
        if group.get("with"):
            assert found[label].startswith("the teacher it is distilled from diverged (")
        elif "pretrain.learning_rate" in group["set"]:
            assert found[label].startswith("its base model diverged (")
        elif "teacher" in group["set"]:
            assert found[label].startswith("the anchors' teacher diverged (")
        assert "are not finite" in found[label]
    assert {(row.cell, row.precision) for row in done.run.board.diverged} == {
        (row.cell, row.precision) for row in done.run.cells if row.diverged
    }
    # a probe has one precision, all others two
    assert len(done.run.board.diverged) == 2 * (len(GROUPS) - 3) + 1


@pytest.mark.slow
def test_it_has_no_accuracy_rank_or_contrast(done: Done) -> None:
    board = done.run.board
    lost, sound = {row.arm for row in board.diverged}, {row.arm for row in board.rows}
    assert len(sound) == 2 and not lost & sound
    assert not lost & {row.arm for row in board.by_language}
    assert not lost & {arm for contrast in board.contrasts for arm in (contrast.a, contrast.b)}
    assert set(done.run.records()["cell"]) == set(SOUND)
    assert all(0 <= row.mean <= 1 for row in board.rows)


@pytest.mark.slow
def test_every_way_to_see_the_board_says_so(done: Done) -> None:
    folder, label = done.out / "diverging", next(iter(reasons(done.run)))
    screen = io.StringIO()
    print_run(done.run, Console(file=screen, width=200))
    page = (folder / "report.html").read_text()
    for text in (screen.getvalue(), (folder / "board.md").read_text(), page, (folder / "board.json").read_text()):
        assert label in text and "diverged" in text and "are not finite" in text
    assert any(note.startswith("6 of 8 cells diverged") for note in done.run.board.notes)


@pytest.mark.slow
def test_the_board_follows_from_the_records_all_the_same(done: Done) -> None:
    assert any("board.json: every number follows" in line for line in verify(done.out / "diverging"))


@pytest.mark.slow
def test_geometry_has_no_value_of_it_but_how_it_trained(done: Done) -> None:
    trained = next(label for label, reason in reasons(done.run).items() if "diverged (" not in reason)
    mine = {m.metric: m.value for m in done.run.measures if m.cell == trained}
    assert mine["diverged"] == 1
    assert not set(mine) & {"cka_base", "isoscore", "mexa", "rankc", "code_stability", "code_stability_trained"}
    assert {"cka_base", "isoscore"} <= {m.metric for m in done.run.measures if m.cell == "ecr-1x-s0" and m.value}


@pytest.mark.slow
def test_export_and_compare_refuse_it_in_one_line(done: Done, tmp_path: Path, capsys: Any) -> None:
    label = next(iter(reasons(done.run)))
    with pytest.raises(UserError, match=r"diverged in fp32 \(.*are not finite\); export one that has scores"):
        export(done.out, "diverging", label, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    folder = done.out / "diverging"
    with pytest.raises(SystemExit) as stop:
        main(["compare", f"{folder}:{label}", f"{folder}:ecr-1x"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and f"{label} in" in error and "diverged" in error


@pytest.mark.slow
def test_a_claim_about_it_is_not_tested_and_says_why(done: Done, tmp_path: Path, capsys: Any) -> None:
    lost = next(row.arm for row in done.run.board.diverged)
    claims = tmp_path / "claims.yaml"
    claims.write_text(
        f"claims:\n- {{id: mine, says: x, a: '{lost}', b: finetune-1x, metric: accuracy, group: unseen, task: all, "
        "direction: higher, smallest_effect: 0.01, controls: []}\n"
    )
    shutil.copytree(done.out / "diverging", tmp_path / "runs" / "copy")
    main(["claims", "copy", "--out", str(tmp_path / "runs"), "--claims", str(claims)])
    assert "diverged in fp32" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_run_of_nothing_else_is_one_line(done: Done) -> None:
    settings = {"teacher.name": "bag", "teacher.rows": 200, "precisions": ["fp32", "int8"], "scoring.items": 3}
    experiment = load("tiny").with_overrides({**settings, "cells": [GROUPS[2]], "name": "nothing"})
    plan = make_plan(experiment)
    assert all(done.store.done(stage) for stage in plan.stages)
    with pytest.raises(UserError, match=r"nothing: every cell diverged: ecr-1x-s0-.*"):
        publish(plan, done.store, done.out / "nothing")


# --- where it is found --------------------------------------------------------------------------------


def broken(model: Any, value: float) -> Any:
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 4] = value
    return model


@pytest.fixture
def folder(tmp_path: Path, model: Any, tokenizer: PreTrainedTokenizerFast) -> Path:
    broken(model, torch.nan).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_weights_are_checked_at_every_precision(precision: str, value: float, model: Any, tmp_path: Path) -> None:
    broken(model, value).save_pretrained(tmp_path / "m")
    loaded = PRECISIONS.get(precision)(tmp_path / "m", "cpu")
    assert "of model.layers.0.mlp.up_proj.weight are not finite" in broken_parameter(loaded)
    with pytest.raises(DivergedError, match=r"^here: \d+ of \d+ numbers of .*this model diverged"):
        check_finite(loaded, "here")


def test_sound_weights_pass_at_every_precision(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    assert not any(broken_parameter(PRECISIONS.get(name)(tmp_path / "m", "cpu")) for name in PRECISIONS)


@pytest.mark.parametrize("way", ["size", "distill.model", "bundle", "lm-eval"])
def test_a_given_model_with_broken_weights_is_one_line(
    way: str, folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    def bundle() -> Any:
        Conditioner(tokenizer).save(folder / "conditioner")
        write_meta(folder, META_OF)
        return open_bundle(folder)

    ways: dict[str, Any] = {
        "size": lambda: load_pretrained(PretrainedSize(model=str(folder), max_length=32), tokenizer),
        "distill.model": lambda: load_teacher(folder, tokenizer, 16),
        "bundle": bundle,
        "lm-eval": lambda: EcrLM(str(folder), device="cpu"),
    }
    with pytest.raises(DivergedError, match=r"not finite.*diverged") as caught:
        ways[way]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["token-table", "hidden"])
def test_a_projection_with_broken_numbers_is_one_line(
    kind: str, model: Any, tokenizer: PreTrainedTokenizerFast, sentences: list[str], tmp_path: Path
) -> None:
    ids = tokenizer(sentences[:60], add_special_tokens=False)["input_ids"]
    config = ProjectionConfig(kind=kind, options={"rank": 4} if kind == "token-table" else {"layer": 1})
    fit_projection(config, ids, torch.randn(60, 6), len(tokenizer), model, 0).save(tmp_path / "p")
    load_projection(tmp_path / "p")
    tensors = load_file(tmp_path / "p" / "projection.safetensors")
    next(iter(tensors.values())).fill_(torch.nan)
    save_file(tensors, tmp_path / "p" / "projection.safetensors")
    with pytest.raises(DivergedError, match=r"projection\.safetensors: \w+ is not finite"):
        load_projection(tmp_path / "p")


def test_eval_of_broken_weights_is_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    write_set(tmp_path / "data", "xcopa", 2)
    arguments = ["eval", str(folder), "xcopa", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert str(folder) in error and "up_proj.weight are not finite: this model diverged" in error
    assert not (tmp_path / "out").exists()


def items_in(folder: Path) -> Path:
    made = [
        Item(f"i{n}", "intent", "coarse", str(n), "de", "de", f"warm lamp {n}", "which ?", ("red", "blue door"), 0)
        for n in range(6)
    ]
    write_items(folder, made)
    return folder


def test_log_likelihoods_that_are_not_finite_give_no_records(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    manager, tasks = load_item_tasks(items_in(tmp_path / "items"), ["ecr_intent_de"])
    metadata = {"cell": "", "arm": "", "precision": "fp32", "seed": 0, "seen_languages": []}
    lm = EcrLM(model, tokenizer=tokenizer, conditioner=Conditioner(tokenizer))
    assert len(evaluate(lm, tasks, metadata=metadata, task_manager=manager)) == 6
    with torch.no_grad():
        model.lm_head.weight[5] = torch.inf
    with pytest.raises(DivergedError, match=r"log-likelihoods of 6 of 6 items are not finite, first i0 of ecr_intent"):
        evaluate(lm, tasks, metadata=metadata, task_manager=manager)


def test_a_precision_that_cannot_hold_a_model_is_marked_alone(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items_in(tmp_path / "items" / "test")
    target = tmp_path / "train" / "model"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    Conditioner(tokenizer).save(target / "conditioner")
    (tmp_path / "out").mkdir()
    plain = scorers.open_scorer

    def overflowing(folder: Path, precision: str, *rest: Any) -> Any:
        scorer = plain(folder, precision, *rest)
        if precision == "bf16":
            with torch.no_grad():
                scorer.lm.model.lm_head.weight.fill_(torch.nan)  # type: ignore[union-attr]
        return scorer

    monkeypatch.setattr(scorers, "open_scorer", overflowing)
    settings = ScoreSettings(tasks=("intent",), precisions=("fp32", "bf16"), batch_tokens=512, seen=("de",))
    inputs = ScoreInputs(train=tmp_path / "train", items=tmp_path / "items")
    costs = ScoreStage.run(settings, inputs, tmp_path / "out", lambda done, total: None).precisions
    assert "are not finite" in costs["bf16"].diverged and not costs["fp32"].diverged
    assert costs["bf16"].ms_per_item is None and costs["bf16"].bytes > 0
    assert set(read_records(tmp_path / "out" / "records.parquet")["precision"]) == {"fp32"}


def test_after_training(model: Any) -> None:
    assert after_training(model, torch.tensor(2.0)) == {}
    assert "last training loss" in after_training(model, torch.tensor(torch.inf))[KEY]
    assert "up_proj" in after_training(broken(model, torch.nan), torch.tensor(2.0))[KEY]


def test_what_is_inherited_names_whose_it_is() -> None:
    assert inherited({"base": {}, "train": {KEY: ""}}) == ""
    assert inherited({"train": {KEY: "x"}}) == "x"
    assert inherited({"corpus": {}, "base": {KEY: "x"}}) == "its base model diverged (x)"
    # the logits of a teacher say already whose they are
    assert inherited({"logits": {KEY: "the teacher diverged (x)"}}) == "the teacher diverged (x)"


@pytest.mark.slow
def test_the_model_saved_by_a_diverged_cell_is_still_there(done: Done) -> None:
    row = next(row for row in done.run.cells if row.cell in reasons(done.run) and "(" not in row.diverged)
    model = AutoModelForCausalLM.from_pretrained(done.store.path(row.stage) / "model")
    assert broken_parameter(model)
