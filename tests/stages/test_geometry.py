"""The stage that measures finished cells: known answers on models made here, whole plans, STS, the file of measures."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ecr_bench.arm import Arm
from ecr_bench.config import ControlTokensConfig, ProjectionConfig, load
from ecr_bench.corpora.base import RawRow, from_rows
from ecr_bench.data.parallel import parallel_rows
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.errors import UserError
from ecr_bench.evaluation.geometry import open_encoder
from ecr_bench.evaluation.records import write_records
from ecr_bench.evaluation.sts import read_sts
from ecr_bench.items.files import write_items
from ecr_bench.methods.method import Ingredients
from ecr_bench.methods.probe import Probe
from ecr_bench.methods.recipe import Recipe
from ecr_bench.metrics.files import FILE, read_measures, write_measures
from ecr_bench.metrics.options import aligned_scores
from ecr_bench.metrics.registry import METRICS
from ecr_bench.metrics.suite import ParallelRows
from ecr_bench.runner.plan import make_plan
from ecr_bench.stages.geometry import GeometryInputs, GeometrySettings, GeometryStage
from ecr_bench.stages.parallel import ParallelInputs, ParallelSettings, ParallelStage
from ecr_bench.stages.teacher import TeacherSettings
from ecr_bench.stages.unconditional import UnconditionalInputs, UnconditionalSettings, UnconditionalStage
from ecr_bench.types import NOBODY, Item, Measure, Prompt
from tests.conftest import WORDS

LANGS = ["de", "en", "ru"]
SETTINGS = GeometrySettings(layer=-1, precision="fp32", batch_tokens=2048, sts_path="", sts_pairs=50)


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def frame(sentences):
    """Forty meanings in three languages, all held out; a 'translation' is the sentence and a language tag."""
    rows = [
        (f"{sentence} {lang}", lang, f"m{i}", WORDS[i % 4], f"{lang}{i}")
        for i, sentence in enumerate(dict.fromkeys(sentences[:60]))
        for lang in LANGS
    ][: 40 * 3]
    data = pd.DataFrame(rows, columns=["text", "lang", "meaning", "label", "id"])
    return parallel_rows(data.assign(split="test", unit=data["meaning"], slots="{}"), 30)


@pytest.fixture
def inputs(tmp_path, frame, model, tokenizer):
    """Folders as the other stages leave them, for a plain cell whose training changed nothing."""
    folders = {name: tmp_path / name for name in ("parallel", "train", "base", "items", "score", "anchors", "out")}
    for folder in folders.values():
        folder.mkdir()
    frame.to_parquet(folders["parallel"] / "rows.parquet")
    teacher = torch.randn(len(frame), 6, generator=torch.Generator().manual_seed(0))
    save_file({"vectors": teacher}, folders["parallel"] / "teacher.safetensors")
    (folders["parallel"] / "languages.json").write_text(json.dumps(LANGS))
    model.save_pretrained(folders["base"] / "model")
    tokenizer.save_pretrained(folders["base"] / "model")
    items = [item("intent", lang, meaning) for meaning in range(6) for lang in LANGS]
    write_items(folders["items"] / "test", items)
    write_records(folders["score"] / "records.parquet", records(items))
    return folders


def item(task: str, lang: str, meaning: int, choices=("a", "b", "c", "d")) -> Item:
    name, cluster = f"{task}/{lang}/{meaning}", f"m{meaning}"
    return Item(name, task, "coarse", cluster, lang, lang, "text", "intent:", tuple(choices), 0)


def records(items: list[Item]) -> pd.DataFrame:
    fixed = {"cell": "", "arm": "", "precision": "fp32", "seed": 0, "grain": "coarse", "group": "seen"}
    rows = [
        {
            **fixed, "task": i.task, "task_name": f"ecr_{i.task}_{i.lang}", "lang": i.lang, "target_lang": i.lang,
            "item_id": i.item_id, "cluster": i.cluster, "topic": i.topic, "control_tokens": [], "extra_tokens": 0,
            "loglikelihoods": [-float(ord(choice)) for choice in i.choices], "choice_bytes": [1] * len(i.choices),
            "gold": 0, "predicted": 0, "correct": True,
        }
        for i in items
    ]  # fmt: skip
    return pd.DataFrame(rows)


def save_cell(folder, method: str, model, tokenizer, anchors_and_projection, kind: str = "token-table") -> None:
    """A cell of ``method`` as the train stage saves it, with fresh control tokens."""
    anchors, projection = anchors_and_projection
    control = ControlTokensConfig(count=2)
    given = Ingredients(tokenizer, control, ("de", "en", "ru"), 8, 1, 32, anchors, projection, torch.zeros(5, 2).long())
    conditioner = Recipe.of(method).conditioner(given)
    if conditioner.tokens is not None:
        conditioner.tokens.add_to(model, 0.5, 0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    conditioner.save(folder / "model" / "conditioner")


def measured(inputs, **changed) -> dict[tuple[str, int | None, str], Measure]:
    folders = GeometryInputs(**{role: folder for role, folder in inputs.items() if role != "out"})
    GeometryStage.run(SETTINGS.model_copy(update=changed), folders, inputs["out"], quiet)
    return {(m.metric, m.step, m.lang): m for m in read_measures(inputs["out"] / FILE)}


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
    result = ParallelStage.run(settings, ParallelInputs(tmp_path / "corpus"), tmp_path / "out", quiet)
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


# --- STS ------------------------------------------------------------------------------------------------


PAIRS = [{"sentence1": f"the lamp {i}", "sentence2": f"a lamp {i % 3}", "score": float(i % 6)} for i in range(30)]


def test_sts_from_a_folder_of_languages(tmp_path):
    for lang in ("de", "xx"):
        (tmp_path / lang).mkdir()
        (tmp_path / lang / "test.jsonl").write_text("\n".join(json.dumps(row) for row in PAIRS) + "\n")
    found = read_sts(str(tmp_path), ["en", "de"], 12)
    assert len(found) == 12 and set(found["lang"]) == {"de"} and found["score"].dtype == float
    pd.testing.assert_frame_equal(found, read_sts(str(tmp_path), ["de"], 12))


def test_sts_from_data_sets_saved_to_disk(tmp_path):
    DatasetDict({"de": Dataset.from_list(PAIRS), "fr": Dataset.from_list(PAIRS)}).save_to_disk(tmp_path / "splits")
    rows = [{**row, "lang": lang} for lang in ("de", "ru") for row in PAIRS]
    Dataset.from_list(rows).save_to_disk(tmp_path / "column")
    assert sorted(set(read_sts(str(tmp_path / "splits"), ["de", "en"], 5)["lang"])) == ["de"]
    assert read_sts(str(tmp_path / "column"), ["de", "ru"], 5)["lang"].value_counts().to_dict() == {"de": 5, "ru": 5}


def test_sts_from_a_data_set_with_a_configuration_per_language(tmp_path):
    """The layout of a repository on the hub, read by the same calls."""
    for lang in ("de", "en"):
        rows = [
            {"sentence1": r["sentence1"], "sentence2": r["sentence2"], "similarity_score": r["score"]} for r in PAIRS
        ]
        (tmp_path / f"{lang}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    configs = "".join(
        f"- config_name: {lang}\n  data_files:\n  - split: test\n    path: {lang}.jsonl\n" for lang in ("de", "en")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    found = read_sts(str(tmp_path), ["de", "en", "ru"], 7)
    assert found["lang"].value_counts().to_dict() == {"de": 7, "en": 7}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence1": "a"}', "no 'sentence2'"),
        ('{"sentence1": "a", "sentence2": "b", "score": "x"}', "must be a number"),
        ("{", "test.jsonl:1: not JSON"),
    ],
)
def test_sts_errors_name_file_and_line(tmp_path, line, message):
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "test.jsonl").write_text(line)
    with pytest.raises(UserError, match=message):
        read_sts(str(tmp_path), ["de"], 5)
    with pytest.raises(UserError, match="no sentence pairs in ru"):
        read_sts(str(tmp_path), ["ru"], 5)
    with pytest.raises(UserError, match="cannot be loaded as a data set"):
        read_sts(str(tmp_path / "nothing"), ["de"], 5)


def test_similarity_is_measured_with_and_without_control_tokens(
    inputs, model, tokenizer, anchors_and_projection, tmp_path
):
    save_cell(inputs["train"], "ecr", model, tokenizer, anchors_and_projection)
    anchors_and_projection[1].save(inputs["anchors"] / "projection")
    for lang in ("de", "en"):
        (tmp_path / "sts" / lang).mkdir(parents=True)
        (tmp_path / "sts" / lang / "test.jsonl").write_text("\n".join(json.dumps(row) for row in PAIRS))
    found = measured(inputs, sts_path=str(tmp_path / "sts"), sts_pairs=30)
    mean, de, en = (found["sts_spearman", None, lang] for lang in ("", "de", "en"))
    assert mean.n == 60 and de.n == en.n == 30
    assert mean.value == pytest.approx((de.value + en.value) / 2) and mean.null[1] < 0 < mean.null[2]
    assert found["sts_spearman_plain", None, ""].value != mean.value


def test_what_the_text_adds_to_an_option_decides(inputs, model, tokenizer, anchors_and_projection):
    """Against the definition, with transformers' own forward: log P(option | text) - log P(option | null tokens)."""
    save_cell(inputs["train"], "ecr", model, tokenizer, anchors_and_projection)
    trained = AutoModelForCausalLM.from_pretrained(inputs["train"] / "model")
    conditioner = Conditioner.load(inputs["train"] / "model" / "conditioner", tokenizer)
    head = conditioner.encode([Prompt("", None)])[0].ids

    def alone(option: str) -> float:
        ids = tokenizer(f" {option}", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = trained(torch.tensor([[*head, *ids]])).logits[0, len(head) - 1 : -1].log_softmax(-1)
        return float(logits.gather(1, torch.tensor(ids)[:, None]).sum())

    items = [item("intent", lang, k, (WORDS[k], f"{WORDS[k + 1]} {WORDS[k]}")) for k in range(6) for lang in LANGS]
    write_items(inputs["items"] / "test", items)
    right = [i % 4 != 0 for i in range(len(items))]  # the right option is the first, and the shorter
    gains = [0.01 if yes else -0.01 for yes in right]
    scored = records([replace(one, choices=("a", "b")) for one in items]).assign(group="unseen")
    scored["loglikelihoods"] = [
        [alone(one.choices[0]) + gain, alone(one.choices[1])] for one, gain in zip(items, gains, strict=True)
    ]
    assert all(first > second for first, second in scored["loglikelihoods"])  # the whole likelihood says nothing of it
    write_records(inputs["score"] / "records.parquet", scored)
    folders = UnconditionalInputs(inputs["train"], inputs["items"], inputs["score"])
    told = UnconditionalStage.run(UnconditionalSettings(batch_tokens=2048), folders, inputs["out"], quiet)
    assert told.options == len({choice for one in items for choice in one.choices})
    found = {(m.metric, m.lang): m for m in read_measures(inputs["out"] / FILE)}
    assert found["acc_mutual_info", ""].value == found["acc_mutual_info_coarse", ""].value
    assert found["acc_mutual_info", ""].value == pytest.approx(sum(right) / len(right))
    for lang in LANGS:
        mine = [yes for yes, one in zip(right, items, strict=True) if one.lang == lang]
        assert found["acc_mutual_info", lang].value == pytest.approx(sum(mine) / len(mine))
    assert len(found) == 2 + len(LANGS)


def test_options_without_their_text_are_a_stage_of_their_own_and_move_no_other():
    off, on = (make_plan(load("quick").with_overrides({"scoring.unconditional": value})) for value in (False, True))
    added = set(on.stages) - set(off.stages)
    assert not set(off.stages) - set(on.stages) and {on.stages[one].kind for one in added} == {"unconditional"}
    assert {cell.unconditional for cell in on.cells} == added and {cell.unconditional for cell in off.cells} == {None}
