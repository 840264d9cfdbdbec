"""Control tokens from the first step of pre-training on, and methods with another part in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ecr_bench.config import Experiment, load
from ecr_bench.data.cutting import whole_texts
from ecr_bench.data.encode import encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.centring import centred, language_means
from ecr_bench.ecr.codes import RandomCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.soft import FILE as MAP
from ecr_bench.errors import UserError
from ecr_bench.methods.teacher_init import start_from
from ecr_bench.quiet import quiet_libraries
from ecr_bench.results.budget import step_notes
from ecr_bench.runner.execute import execute
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from ecr_bench.stages.base_model import BaseMade, BaseStage, without_some
from ecr_bench.stages.train import TrainStage

OWN = ("ecr", "random", "constant", "language", "shuffled", "oracle", "soft-cue")
"""Methods with codes of their own; ``codes-only`` has ECR's."""
RIVALS = ("embedding-distillation", "teacher-init")
SETTINGS = {"control_tokens.from": "pretraining", "finetune.texts": "whole", "precisions": ["fp32"], "scoring.items": 2}


def experiment(*methods: str, **settings: object) -> Experiment:
    cells = [{"method": name} for name in methods]
    return load("tiny").with_overrides({**SETTINGS, "cells": cells, **settings})


def base_of(plan: Plan, label: str) -> str:
    return next(cell.base for cell in plan.cells if cell.label == label)


@pytest.fixture
def coded(tokenizer) -> Conditioner:
    return Conditioner(tokenizer, RandomCodes(3, 8), ControlTokens(len(tokenizer), 8), 3, "infix")


def test_a_row_is_the_plain_row_behind_the_codes_of_the_whole_text(coded, tokenizer, sentences):
    rows = whole_texts((text, "en") for text in sentences)
    plain, ours = encode_texts(Conditioner(tokenizer), rows, 64), encode_texts(coded, rows, 64)
    for text, without, found in zip(sentences, plain, ours, strict=True):
        codes = coded.tokens.ids(coded.source([text], ["en"]))[0].tolist()
        assert found.ids == [tokenizer.bos_token_id, *codes, *without.ids[1:]]
        assert (found.loss_from, without.loss_from) == (4, 1) and found.length == without.length
        assert without.ids[-1] == tokenizer.eos_token_id
    batches = [ExamplesDataModule(Mixture([], r, 1.0), [], 0, 16, 20, seed=1).batches for r in (plain, ours)]
    assert batches[0] == batches[1]


def test_a_text_beyond_the_window_loses_its_end_and_no_code(coded):
    (row,) = encode_texts(coded, whole_texts([("red lamp " * 60, "en")]), 16)
    assert len(row.ids) == 16 and sum(i >= coded.tokens.first_id for i in row.ids) == 3
    assert row.ids[4:6] == encode_texts(coded, whole_texts([("red lamp", "en")]), 16)[0].ids[4:6]


def test_some_texts_have_null_tokens_in_place_of_codes(coded, sentences):
    rows = encode_texts(coded, whole_texts((text, "en") for text in sentences), 64)
    found = without_some(rows, coded, 0.25, seed=0)
    null = [row.ids[1:4] == [coded.tokens.null_id] * 3 for row in found]
    assert 0.15 < sum(null) / len(rows) < 0.35
    assert all(after.ids[4:] == before.ids[4:] for after, before in zip(found, rows, strict=True))
    assert without_some(rows, coded, 0.0, seed=0) == rows and found == without_some(rows, coded, 0.25, seed=0)


def test_arms_with_the_same_codes_share_a_base():
    tokens = [{"method": name} for name in (*OWN, "codes-only", "finetune", *RIVALS)]
    tokens += [{"method": "ecr", "with": ["dropout"]}, {"method": "ecr", "set": {"control_tokens.placement": "suffix"}}]
    tokens += [{"method": "ecr", "set": {"control_tokens.count": 1}}, {"method": "random", "seeds": [1]}]
    plan = make_plan(experiment(cells=tokens))
    of_ecr = base_of(plan, "ecr-1x-s0")
    assert {base_of(plan, f"{name}-1x-s0") for name in ("codes-only", "ecr+dropout")} == {of_ecr}
    assert base_of(plan, "ecr-1x-s0-control_tokens.placement=suffix") == of_ecr
    assert of_ecr != base_of(plan, "ecr-1x-s0-control_tokens.count=1")
    assert base_of(plan, "random-1x-s0") == base_of(plan, "random-1x-s1")
    assert len({base_of(plan, f"{name}-1x-s0") for name in (*OWN, *RIVALS, "finetune")}) == len(OWN) + 3
    later = make_plan(experiment(cells=tokens[:-2], **{"control_tokens.from": "finetuning"}))
    assert {base_of(later, f"{name}-1x-s0") for name in (*OWN, "codes-only")} == {base_of(later, "finetune-1x-s0")}
    assert base_of(later, "finetune-1x-s0") == base_of(plan, "finetune-1x-s0")


def test_a_projection_of_hidden_states_is_fitted_on_a_base_without_tokens():
    plan = make_plan(experiment("ecr", **{"projection.kind": "hidden"}))
    (cell,) = plan.cells
    plain = plan.stages[plan.stages[cell.anchors].inputs["base"]]
    assert plain.settings.reads.recipe.method == "finetune" and plain.id != cell.base
    assert plan.stages[cell.base].inputs["anchors"] == cell.anchors


@pytest.mark.parametrize("method", ["ecr", *RIVALS])
def test_a_part_in_pretraining_needs_pretraining(method, tiny_folders):
    size = {"model": str(tiny_folders["llama"]), "max_length": 64}
    with pytest.raises(UserError, match=r"^(tiny: )?pretrain\.steps: .* needs 1 or more"):
        make_plan(experiment(method, **{"sizes": {"1x": size}, "pretrain.steps": 0}))


def test_the_key_is_from_and_errors_say_so():
    given = load("tiny").with_overrides({"control_tokens.from": "pretraining"})
    assert given.control_tokens.begin == "pretraining"
    assert given.model_dump(mode="json")["control_tokens"]["from"] == "pretraining"
    with pytest.raises(UserError, match=r"control_tokens\.since.*absent, count, from, init_std"):
        load("tiny").with_overrides({"control_tokens.since": "pretraining"})
    with pytest.raises(UserError, match=r"control_tokens\.from: .*'pretraining' or 'finetuning'"):
        load("tiny").with_overrides({"control_tokens.from": "birth"})


# ---- real stages


class Done(NamedTuple):
    plan: Plan
    store: Store

    def base(self, label: str) -> Path:
        return self.store.path(base_of(self.plan, label)) / "model"

    def trained(self, label: str) -> Path:
        return self.store.path(next(cell.train for cell in self.plan.cells if cell.label == label)) / "model"

    def made(self, label: str) -> BaseMade:
        return self.store.read(BaseStage, base_of(self.plan, label))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Done:
    """Every base and every arm; fine-tuning is too slow to move anything."""
    quiet_libraries()
    slow = {"teacher.name": "bag", "teacher.rows": 200, "finetune.learning_rate": 1e-12, "geometry.measure": False}
    plan = make_plan(experiment(*OWN, "codes-only", "finetune", *RIVALS, **slow))
    store = Store(tmp_path_factory.mktemp("runs"))
    execute(plan.stages, store, Console(file=io.StringIO()), Local(1))
    return Done(plan, store)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("method", [*OWN, "codes-only"])
def test_fine_tuning_goes_on_with_the_rows_pretraining_left(done, method):
    base, trained = weights(done.base(f"{method}-1x-s0")), weights(done.trained(f"{method}-1x-s0"))
    assert base.keys() == trained.keys()
    for name, tensor in base.items():
        torch.testing.assert_close(trained[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", OWN)
def test_pretraining_moves_the_rows_of_control_tokens(done, method):
    folder = done.base(f"{method}-1x-s0")
    result = done.made(f"{method}-1x-s0")
    found = weights(folder)["model.embed_tokens.weight"]
    conditioner = Conditioner.load(folder / "conditioner", load_tokenizer(folder))
    tokens = conditioner.tokens
    before = torch.zeros(tokens.first_id + tokens.size, found.shape[1])
    rows = torch.randn(tokens.size, found.shape[1], generator=torch.Generator().manual_seed(0)) * 0.02
    before[tokens.first_id :] = rows
    assert (found[tokens.first_id :] - before[tokens.first_id :]).abs().max() > 1e-4
    assert result.training.steps == 4 and result.cut == 0 and result.texts > 0


@pytest.mark.slow
def test_every_base_reads_the_same_texts(done):
    """m more tokens in each row, and nothing else."""
    rows = done.plan.experiment.pretrain.steps * done.plan.experiment.pretrain.batch_size
    plain = done.made("finetune-1x-s0").training.tokens
    for method in OWN:
        assert done.made(f"{method}-1x-s0").training.tokens == plain + 2 * rows
    for method in RIVALS:
        assert done.made(f"{method}-1x-s0").training.tokens == plain
        assert not (done.base(f"{method}-1x-s0") / "conditioner").exists()


@pytest.mark.slow
def test_the_map_of_a_soft_cue_is_learned_in_pretraining_and_goes_on(done):
    base, trained = (f("soft-cue-1x-s0") / "conditioner" for f in (done.base, done.trained))
    before, after = load_file(base / MAP)["weight"], load_file(trained / MAP)["weight"]
    assert before.abs().max() > 0
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_pretrains_otherwise_than_the_plain_model_and_is_as_large(done, method):
    ours, plain = weights(done.base(f"{method}-1x-s0")), weights(done.base("finetune-1x-s0"))
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in plain.items()}
    assert any((ours[name] - plain[name]).abs().max() > 1e-4 for name in ours)
    settings = {
        m: done.plan.stages[c.train].settings
        for m in (method, "finetune")
        for c in done.plan.cells
        if c.arm.method == m
    }
    assert settings[method].teacher is None and settings[method].control_tokens.count == 0
    result = done.store.read(TrainStage, next(c.train for c in done.plan.cells if c.arm.method == method))
    assert result.extra_tokens == result.side_parameters == 0


# ---- the rivals' arithmetic


def test_language_means_are_taken_off():
    vectors = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    langs = ["en", "en", "de"]
    assert centred(vectors, langs, language_means(vectors, langs)).tolist() == [[-1, -1], [1, 1], [0, 0]]


def test_embeddings_start_with_the_similarities_of_the_projection(tokenizer, anchors_and_projection):
    projection = anchors_and_projection[1]
    weight = torch.randn(len(tokenizer), 32, generator=torch.Generator().manual_seed(0)) * 0.02
    before = weight.clone()
    start_from(weight, projection, len(tokenizer))
    vectors = projection([[token] for token in range(len(tokenizer))])
    known = vectors.norm(dim=-1) > 0
    centred = vectors[known] - vectors[known].mean(0)
    wanted, found = centred @ centred.T, weight[known] @ weight[known].T
    torch.testing.assert_close(found / found.trace(), wanted / wanted.trace(), atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(weight[~known], before[~known])
    assert weight[known].std() == pytest.approx(float(before.std()), rel=0.05)


# ---- settings chosen on validation rows


def test_what_was_tuned_for_an_arm_is_its_own_and_in_no_name():
    tuned = [{"method": "ecr", "sizes": ["1x"], "set": {"sizes.1x.learning_rate": 0.02}}]
    tuned += [{"method": "finetune", "with": ["lora"], "sizes": ["1x"], "set": {"finetune.clip": 1.0}}]
    cells = [{"method": "ecr"}, {"method": "finetune"}, {"method": "finetune", "with": ["lora"]}]
    cells += [{"method": "ecr", "set": {"sizes.1x.learning_rate": 0.03}}]
    plan = make_plan(experiment(cells=cells, tuned=tuned))
    read = {cell.label: plan.stages[cell.train].settings.finetune for cell in plan.cells}
    assert {name: (f.learning_rate, f.clip) for name, f in read.items()} == {
        "ecr-1x-s0": (0.02, None),
        "finetune-1x-s0": (0.003, None),
        "finetune+lora-1x-s0": (0.003, 1.0),
        "ecr-1x-s0-sizes.1x.learning_rate=0.03": (0.03, None),
    }


@pytest.mark.parametrize(
    ("tuned", "message"),
    [
        ({"method": "ecr", "sizes": ["9x"], "set": {}}, "tuned names size '9x'"),
        ({"method": "ecr", "sizes": ["1x"], "set": {"name": "x"}}, "tuned.set: name holds for a whole run"),
        ({"method": "ecr", "sizes": ["1x"], "set": {"finetune.rate": 1}}, r"finetune.rate is not how .*learning_rate"),
        ({"method": "ecrr", "sizes": ["1x"], "set": {}}, "tuned: unknown method 'ecrr'"),
        *[
            ({"method": "ecr", "sizes": ["1x"], "set": {key: value}}, f"tuned.set: {key} is not how its arm is trained")
            for key, value in {
                "sizes.1x.hidden_size": 256, "sizes.3x.learning_rate": 0.1, "finetune.items": 9, "pretrain.seed": 1,
                "pretrain.distill": "3x", "control_tokens.count": 1, "anchors.k": 8, "finetune": {"steps": 9},
                "finetune.batch_size": 9, "finetune.loss": "token", "pretrain.optimiser": "adamw",
                "sizes.1x.dtype": "bf16", "sizes.1x.max_length": 64, "options.distill": {"size": "1x"},
                "options.distill.size": "1x", "options.distill.model": "here", "options": {"distill": {"size": "1x"}},
            }.items()
        ],
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_one_line(tuned, message):
    with pytest.raises(UserError, match=message):
        make_plan(experiment("ecr", tuned=[tuned]))
    with pytest.raises(UserError, match="stands there twice"):
        make_plan(experiment("ecr", tuned=[{"method": "ecr", "sizes": ["1x"], "set": {}}] * 2))


def experiments(plan):
    return {cell.arm: [plan.experiment.model_dump(mode="json")] for cell in plan.cells}


def test_whoever_has_other_steps_is_named():
    rates = {"method": "random", "sizes": ["1x"], "set": {"finetune.clip": 1.0}}
    steps = {"sizes": ["1x"], "set": {"finetune.steps": 9}}
    longer = [{"method": name, **steps} for name in ("ecr", "codes-only", "oracle")]
    plan = make_plan(experiment("ecr", "codes-only", "random", "constant", "finetune", tuned=[rates, *longer]))
    usual = plan.experiment.finetune.steps
    assert step_notes(experiments(plan)) == [
        f"Steps differ: finetune.steps = 9: ecr-1x, codes-only-1x; finetune.steps = {usual}: random-1x, constant-1x, "
        "finetune-1x."
    ]


def test_steps_that_a_name_tells_or_that_all_have_are_no_news():
    usual = experiment("ecr").finetune.steps
    tuned = [{"method": "ecr", "sizes": ["1x"], "set": {"finetune.steps": 9}}]
    tuned += [{"method": "random", "sizes": ["1x"], "set": {"finetune.steps": usual}}]
    cells = [{"method": "ecr", "set": {"finetune.steps": 7}}, {"method": "random"}]
    assert step_notes(experiments(make_plan(experiment(cells=cells, tuned=tuned)))) == []
