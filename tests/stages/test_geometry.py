"""The stage that measures finished cells: known answers on models made here, whole plans, the file of measures."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ecr_bench.arm import Arm
from ecr_bench.config import ProjectionConfig, load
from ecr_bench.corpora.base import RawRow, from_rows
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.errors import UserError
from ecr_bench.evaluation.geometry import open_encoder
from ecr_bench.methods.probe import Probe
from ecr_bench.metrics.files import FILE, read_measures, write_measures
from ecr_bench.metrics.options import aligned_scores
from ecr_bench.metrics.registry import METRICS
from ecr_bench.metrics.suite import ParallelRows
from ecr_bench.runner.plan import make_plan
from ecr_bench.stages.parallel import ParallelInputs, ParallelSettings, ParallelStage
from ecr_bench.stages.teacher import TeacherSettings
from ecr_bench.types import NOBODY, Measure, Prompt
from tests.conftest import WORDS
from tests.helpers.measuring import LANGS, item, measured, no_progress, records, save_cell


def test_a_cell_that_did_not_move_has_no_drift_and_every_measure_is_in_the_registry(
    inputs, model, tokenizer, anchors_and_projection, frame
):
    save_cell(inputs["train"], "finetune", model, tokenizer, anchors_and_projection)
    states = open_encoder(inputs["train"] / "model", -1, "cpu", 2048).embed(frame["text"], frame["lang"])
    trace = {"loss": torch.linspace(3, 1, 60), "grad_norm": torch.ones(60)}
    save_file(trace, inputs["train"] / "trace.safetensors")
    kept = {"step-000000": states.half(), "step-000060": (states + torch.randn_like(states)).half()}
    save_file(kept, inputs["train"] / "snapshots.safetensors")
    found = measured(inputs)
    assert found["cka_base", None, ""].value == pytest.approx(1)
    assert found["procrustes_base", None, ""].value == pytest.approx(0, abs=1e-6)
    assert found["cka_base", 0, ""].value == pytest.approx(1, abs=1e-4)
    assert found["cka_base", 60, ""].value < 0.95
    assert found["rankc", None, ""].value == pytest.approx(1) and found["rankc", None, ""].n == 6 * 3
    assert found["diverged", None, ""].value == 0 and found["diverged", None, ""].n == 60
    assert {m.metric for m in found.values()} <= set(METRICS)
    # a plain cell has no control tokens to leave out and no codes
    assert not [name for name, _, _ in found if name.endswith("_plain") or name.startswith("code_")]
    # everything that has a null has it at the end, and not along the way
    # (a dimension may have none: shuffled vectors need not follow the law it is read from)
    without = {"diverged", "spike_score", "loss_spikes", "grad_norm_median", "grad_norm_p95", "grad_norm_max"}
    without |= {"intrinsic_dimension", "bits_per_byte"}
    odd = [m for m in found.values() if (m.null is not None) != (m.step is None and m.metric not in without)]
    assert not odd
    assert {lang for name, _, lang in found if name == "mexa"} == {"", "de", "ru"}
    sizes = {m.n for (name, _, _), m in found.items() if name in ("cka_base", "isoscore", "hubness", "trustworthiness")}
    assert sizes == {len(frame[["text", "lang"]].drop_duplicates())}


def test_an_arm_with_control_tokens_is_measured_with_and_without_them(inputs, model, tokenizer, anchors_and_projection):
    _, projection = anchors_and_projection
    save_cell(inputs["train"], "ecr", model, tokenizer, anchors_and_projection)
    projection.save(inputs["anchors"] / "projection")
    found = measured(inputs)
    # the weights are the base model's: without control tokens nothing moved, with them something did
    assert found["cka_base_plain", None, ""].value == pytest.approx(1)
    assert found["cka_base", None, ""].value < 0.999
    assert found["code_stability", None, ""].value == 1
    assert ("code_stability_trained", None, "") not in found
    for name in ("mexa", "retrieval", "retrieval_to_pivot", "retrieval_from_pivot"):
        assert (name, None, "") in found and (name + "_plain", None, "") in found


@pytest.mark.parametrize("method", ["finetune", "ecr"])
def test_bits_per_byte_are_those_of_transformers_own_loss(
    inputs, model, tokenizer, anchors_and_projection, frame, method
):
    save_cell(inputs["train"], method, model, tokenizer, anchors_and_projection)
    anchors_and_projection[1].save(inputs["anchors"] / "projection")
    found = measured(inputs)
    trained = AutoModelForCausalLM.from_pretrained(inputs["train"] / "model")
    conditioner = Conditioner.load(inputs["train"] / "model" / "conditioner", tokenizer)
    head = conditioner.encode([Prompt("", None)])[0].ids
    assert len(head) == 1 + 2 * (method == "ecr") and set(head[1:]) <= {
        conditioner.tokens.null_id if conditioner.tokens else None
    }
    texts = frame[["text", "lang"]].drop_duplicates()
    expected = {}
    for lang, mine in texts.groupby("lang"):
        bits = 0.0
        for text in mine["text"]:
            ids = torch.tensor([[*head, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
            labels = ids.clone()
            labels[0, : len(head)] = -100
            with torch.no_grad():
                bits += float(trained(ids, labels=labels).loss) * (ids.shape[1] - len(head)) / math.log(2)
        expected[lang] = bits / sum(len(text.encode()) for text in mine["text"])
        assert found["bits_per_byte", None, lang].value == pytest.approx(expected[lang], rel=1e-5)
        assert found["bits_per_byte", None, lang].n == len(mine)
    assert found["bits_per_byte", None, ""].value == pytest.approx(sum(expected.values()) / len(expected), rel=1e-5)


def test_controls_are_measured_on_the_same_rows_and_codes_only_on_its_tokens(
    inputs, model, tokenizer, anchors_and_projection, tmp_path
):
    anchors_and_projection[1].save(inputs["anchors"] / "projection")
    sizes = []
    for method in ("random", "constant", "language", "shuffled", "codes-only"):
        train = tmp_path / method
        train.mkdir()
        loaded = AutoModelForCausalLM.from_pretrained(inputs["base"] / "model")
        save_cell(train, method, loaded, tokenizer, anchors_and_projection)
        found = measured({**inputs, "train": train})
        shared = ("cka_base", "isoscore", "trustworthiness", "hubness", "language_separability", "mexa", "retrieval")
        sizes.append({key: m.n for key, m in found.items() if m.metric in shared})
        assert (("mexa_plain", None, "") in found) == (method != "codes-only")
        assert (("bits_per_byte", None, "") in found) == (method != "codes-only")  # which reads no text
        if method == "language":
            # the codes say the language and nothing else: a probe finds it, though the weights were never trained
            assert found["language_separability", None, ""].value > found["language_separability", None, ""].null[2]
    assert len(sizes[0]) > 7 and all(other == sizes[0] for other in sizes)


def test_an_arm_without_a_language_model_is_measured_on_its_projection(
    inputs, tokenizer, anchors_and_projection, frame
):
    _, projection = anchors_and_projection
    probe = Probe(tokenizer, projection, torch.eye(16)[:8], {})
    probe.save(inputs["train"] / "model")
    found = measured(inputs)
    assert found["mexa", None, ""].layer is None and found["mexa", None, ""].value is not None
    assert not [name for name, _, _ in found if name.startswith(("cka", "procrustes", "grad_norm"))]
    encoder = open_encoder(inputs["train"] / "model", -1, "cpu", 2048)
    assert encoder.plain is None and encoder.embed(frame["text"][:3].tolist(), ["en"] * 3).shape == (3, 8)


def test_codes_of_a_hidden_projection_move_with_the_model(inputs, model, tokenizer, anchors_and_projection, sentences):
    anchors, _ = anchors_and_projection
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    targets = torch.randn(len(ids), 16, generator=torch.Generator().manual_seed(3))
    hidden = fit_projection(ProjectionConfig(kind="hidden"), ids, targets, len(tokenizer), model, 0)
    hidden.save(inputs["anchors"] / "projection")
    save_cell(inputs["train"], "ecr", model, tokenizer, (anchors, hidden))
    found = measured(inputs)
    assert found["code_stability", None, ""].value == 1
    assert found["code_stability_trained", None, ""].value == pytest.approx(1, abs=0.01)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(1.5)
    shutil.rmtree(inputs["train"] / "model")
    save_cell(inputs["train"], "ecr", model, tokenizer, (anchors, hidden))
    assert measured(inputs)["code_stability_trained", None, ""].value < 0.9


def test_snapshots_of_other_rows_are_refused(inputs, model, tokenizer, anchors_and_projection):
    save_cell(inputs["train"], "finetune", model, tokenizer, anchors_and_projection)
    save_file({"step-000000": torch.zeros(4, 32).half()}, inputs["train"] / "snapshots.safetensors")
    with pytest.raises(UserError, match=r"snapshots\.safetensors: 4 rows"):
        measured(inputs)


def test_a_corpus_without_translations_leaves_only_what_needs_none(
    inputs, model, tokenizer, anchors_and_projection, frame
):
    save_cell(inputs["train"], "finetune", model, tokenizer, anchors_and_projection)
    frame.iloc[:0].to_parquet(inputs["parallel"] / "rows.parquet")
    assert {name for name, _, _ in measured(inputs)} == {"rankc"}


def test_too_few_rows_give_no_number_instead_of_an_error(inputs, model, tokenizer, anchors_and_projection, frame):
    save_cell(inputs["train"], "finetune", model, tokenizer, anchors_and_projection)
    frame.iloc[:6].to_parquet(inputs["parallel"] / "rows.parquet")
    save_file({"vectors": torch.randn(6, 6)}, inputs["parallel"] / "teacher.safetensors")
    found = measured(inputs)
    assert found["trustworthiness", None, ""].value is None and found["trustworthiness", None, ""].n < 10
    assert found["cka_base", None, ""].value == pytest.approx(1)


def test_a_model_that_diverged_has_no_geometry_and_no_error(inputs, model, tokenizer, anchors_and_projection):
    anchors_and_projection[1].save(inputs["anchors"] / "projection")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    save_cell(inputs["train"], "ecr", model, tokenizer, anchors_and_projection)
    broken = {"loss": torch.tensor([2.0] * 30 + [torch.nan]), "grad_norm": torch.ones(31)}
    save_file(broken, inputs["train"] / "trace.safetensors")
    found = measured(inputs)
    assert found["diverged", None, ""].value == 1 and found["loss_spikes", None, ""].value == 1
    assert {"cka_base", "isoscore", "mexa", "trustworthiness", "language_separability"} <= {
        name for name, _, _ in found
    }
    pooled = [m for m in found.values() if m.layer is not None and m.metric != "code_stability"]
    assert all(m.value is None and m.null is None and "finite" in m.reason for m in pooled)


def test_the_pivot_does_not_outweigh_other_languages_in_the_probe(frame):
    rows = ParallelRows.of(frame)
    counts = frame["lang"].iloc[rows.balanced.numpy()].value_counts()
    assert counts["en"] == max(counts["de"], counts["ru"]) and len(rows.distinct) > len(rows.balanced)
    assert not frame.iloc[rows.distinct.numpy()].duplicated(["text", "lang"]).any()
    assert (frame["lang"].iloc[1::2] == "en").all() and rows.languages == ("de", "en", "ru")


def test_the_parallel_rows_are_embedded_once_with_the_teacher(tmp_path, monkeypatch, sentences):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))
    raw = [
        RawRow(f"{sentence} {lang}", lang, f"m{i}", WORDS[i % 4], f"u{i}", split=("train", "test")[i % 2])
        for i, sentence in enumerate(dict.fromkeys(sentences[:40]))
        for lang in LANGS
    ]
    config = load("tiny").corpus
    from_rows(raw, config=config, source="here", licence="none").save(tmp_path / "corpus" / "corpus")
    (tmp_path / "out").mkdir()
    settings = ParallelSettings(per_language=5, teacher=TeacherSettings(name="bag"))
    result = ParallelStage.run(settings, ParallelInputs(tmp_path / "corpus"), tmp_path / "out", no_progress)
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    vectors = load_file(tmp_path / "out" / "teacher.safetensors")["vectors"]
    assert result.rows == len(rows) == len(vectors) == 2 * 5 * 2
    assert json.loads((tmp_path / "out" / "languages.json").read_text()) == LANGS


def test_options_align_by_meaning_and_share_three_or_more():
    items = [
        item("intent", "de", 1, "abcd"),
        item("intent", "en", 1, "dcbx"),
        item("intent", "en", 2, "abcd"),
        item("intent", "ru", 2, "abxy"),
    ]
    blocks = aligned_scores(items, records(items))
    assert len(blocks) == 1
    first, second = blocks[0]
    assert first.tolist() == second.tolist() == [[-98, -99, -100]]  # b, c, d; the score is the letter


def test_every_cell_is_measured_once_and_training_does_not_know():
    on, off = (make_plan(load("quick").with_overrides({"geometry.measure": value})) for value in (True, False))
    assert {cell.train for cell in on.cells} == {cell.train for cell in off.cells}
    assert {cell.score for cell in on.cells} == {cell.score for cell in off.cells}
    kinds = [stage.kind for stage in on.stages.values()]
    assert kinds.count("geometry") == len(on.cells) and kinds.count("parallel") == 1
    assert set(on.stages) - set(off.stages) == {s.id for s in on.stages.values() if s.kind in ("geometry", "parallel")}
    assert all(cell.geometry is None for cell in off.cells)
    lora = [c for c in make_plan(load("standard")).cells if ("lora.base", "int8") in c.arm.settings]
    stages = make_plan(load("standard")).stages
    assert lora and all(stages[cell.geometry].settings.precision == "int8" for cell in lora)


def test_a_teacher_that_is_a_cell_of_the_experiment_is_an_input():
    overrides = {
        "teacher": {"name": "checkpoint", "rows": 400, "options": {"size": "3x"}},
        "cells": [{"method": "ecr"}],
    }
    plan = make_plan(load("tiny").with_overrides(overrides))
    parallel = next(stage for stage in plan.stages.values() if stage.kind == "parallel")
    assert plan.stages[parallel.inputs["teacher"]].label.startswith("train finetune-3x")


def test_measures_survive_the_file_and_a_strange_file_is_one_line(tmp_path):
    measures = [Measure("mexa", 0.5, 10, -1, "fp32", "de", 9, (0.1, 0.0, 0.2), cell="c", arm=Arm("ecr", "1x"), seed=3)]
    measures.append(Measure("cka_base", None, reason="too few rows"))
    write_measures(tmp_path / FILE, measures, named=True)
    assert read_measures(tmp_path / FILE, {"ecr-1x": Arm("ecr", "1x"), "-": NOBODY}) == measures
    write_measures(tmp_path / FILE, measures)  # as a stage does, which does not know what cell it is
    unnamed = [replace(m, cell="", arm=NOBODY, seed=0) for m in measures]
    assert read_measures(tmp_path / FILE) == unnamed
    for text in ('{"a": 1}', '[{"cell": "x"}]'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UserError, match=r"measures\.json: not a list of measures"):
            read_measures(tmp_path / FILE)
