"""Distillation and geometry as a loss: alignment with the teacher, its cache, training, and the plan."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from ecr_bench import config
from ecr_bench.config import ControlTokensConfig, FinetuneConfig, SizeConfig, TokenizerConfig
from ecr_bench.data.cutting import cut_texts
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.fast.chunked import chunked_loss
from ecr_bench.fast.labelled import hidden_states
from ecr_bench.methods import teacher_logits
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import Sparse
from ecr_bench.methods.method import Ingredients, Method, Training
from ecr_bench.methods.models import create_model
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.teacher_logits import LogitCache, build_cache, cache_identity, load_teacher, plain_rows
from ecr_bench.runner.plan import make_plan
from ecr_bench.stages.parts import tensor_part
from ecr_bench.types import Item


def distilled(method: str = "finetune", **options) -> Recipe:
    return Recipe.of(method, ["distill"], {"distill": options})


def make_training(tokenizer, sentences, anchors_and_projection, folders=None) -> Training:
    anchors, projection = anchors_and_projection
    control = ControlTokensConfig(count=2)
    given = Ingredients(tokenizer, control, ("en",), 8, 1, hidden_size=32, anchors=anchors, projection=projection)
    items = [
        Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", ("red", "blue lamp"), i % 2)
        for i, text in enumerate(sentences[:40])
    ]
    texts = cut_texts(tokenizer, [(text, "en") for text in sentences[40:60]], 0)
    return Training(given, Conditioner(given.tokenizer), items, texts, 64, 0, {}, folders or {})


@pytest.fixture
def teacher_folder(tmp_path, tokenizer):
    folder = tmp_path / "larger" / "model"
    big = SizeConfig(hidden_size=48, layers=1, heads=2, intermediate_size=64, max_length=64)
    teacher = create_model(big, tokenizer, seed=3)
    with torch.no_grad():  # a fresh model says next to nothing
        teacher.get_input_embeddings().weight.mul_(20)
    teacher.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def batches_of(method, training, batch_size=12):
    conditioner = method.conditioner(training.given)
    encoded = encode_items(conditioner, training.items, 64), encode_texts(conditioner, training.texts, 64)
    data = ExamplesDataModule(Mixture(*encoded, 0.25), [], training.given.tokenizer.pad_token_id, batch_size, 6, 0)
    return conditioner, list(data.train_dataloader())


def quiet(module):
    module.log = lambda *args, **kwargs: None
    return module


@pytest.mark.parametrize("method", ["finetune", "ecr"])
def test_online_and_whole_cache_give_the_same_loss(
    method, tmp_path, model, tokenizer, sentences, anchors_and_projection, teacher_folder
):
    losses = []
    for top_k in (None, 10_000):
        recipe = distilled(method, divergence="jsd", cache_top_k=top_k)
        settings = recipe.larger
        folders = {"larger": teacher_folder.parent, "logits": tmp_path / "logits"}
        training = make_training(tokenizer, sentences, anchors_and_projection, folders)
        if top_k:
            rows = plain_rows(tokenizer, training.items, training.texts, 64)
            cache = build_cache(load_teacher(teacher_folder, tokenizer, 64), rows, settings, len(tokenizer), 0)
            cache.save(tmp_path / "logits", cache_identity(teacher_folder, rows, settings, 0))
        conditioner, batches = batches_of(recipe, training)
        if conditioner.tokens:
            conditioner.tokens.add_to(model, 0.02, 0)
            assert model.get_input_embeddings().weight.shape[0] > len(tokenizer)
        module = quiet(recipe.module(model, FinetuneConfig()))
        module.prepare(training)
        losses.append(torch.stack([module.loss(batch) for batch in batches]))
    assert torch.allclose(*losses, atol=1e-5) and losses[0].min() > 0


@pytest.mark.parametrize("placement", ["prefix", "infix", "suffix", "interleaved"])
def test_teacher_and_student_line_up_wherever_control_tokens_stand(
    placement, tokenizer, sentences, anchors_and_projection
):
    """Row by row, the teacher's answer tokens are the student's, and its prompt has no control token."""
    training = make_training(tokenizer, sentences, anchors_and_projection)
    rows = plain_rows(tokenizer, training.items, training.texts, 64)

    class Fixed(Method):
        def source(self, given):
            return ConstantCodes(4, 8)

    given = Ingredients(tokenizer, ControlTokensConfig(count=4, placement=placement), ("en",), 8, 1, hidden_size=32)
    conditioner = Fixed("fixed").conditioner(given)
    student = encode_items(conditioner, training.items, 64) + encode_texts(conditioner, training.texts, 64)
    for ours, theirs in zip(student, rows, strict=True):
        assert ours.ids[ours.loss_from :] == theirs.ids[theirs.loss_from :]
        assert len(ours.ids) == len(theirs.ids) + 4 and max(theirs.ids) < len(tokenizer)
        assert [i for i in ours.ids if i < len(tokenizer)] == theirs.ids


def row_by_row(module, teacher, example, plain) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy and τ² KL of each answer token of one row, each model asked for all its own logits."""
    settings, answer = module.recipe.larger, torch.tensor(example.ids[example.loss_from :])
    ours, theirs = (
        model(torch.tensor([row.ids])).logits[0, row.loss_from - 1 : -1]
        for model, row in ((module.model, example), (teacher, plain))
    )
    plain_losses = torch.nn.functional.cross_entropy(ours, answer, reduction="none")
    p, q = (
        torch.softmax(x[:, : module.recipe.modifiers[0].vocabulary] / settings.temperature, -1) for x in (theirs, ours)
    )
    if settings.cache_top_k:
        top = p.topk(settings.cache_top_k).indices
        p, q = (torch.cat([x.gather(1, top), 1 - x.gather(1, top).sum(1, keepdim=True)], 1) for x in (p, q))
    return plain_losses, settings.temperature**2 * (p * (p / q).log()).sum(1)


@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("average", ["row", "token"])
@pytest.mark.parametrize("method", ["finetune", "ecr"])
def test_both_terms_are_averaged_alike(
    method, average, top_k, tmp_path, model, tokenizer, sentences, anchors_and_projection, teacher_folder, monkeypatch
):
    """A long answer counts as much as a short one, in the distillation term as in cross-entropy, and in chunks too."""
    recipe = distilled(method, cache_top_k=top_k, weight=0.7)
    settings = recipe.larger
    folders = {"larger": teacher_folder.parent, "logits": tmp_path / "logits"}
    training = make_training(tokenizer, sentences, anchors_and_projection, folders)
    long = [replace(item, choices=("red", "blue lamp " * 9), gold=i % 2) for i, item in enumerate(training.items)]
    training = replace(training, items=long)
    rows, teacher = plain_rows(tokenizer, long, training.texts, 64), load_teacher(teacher_folder, tokenizer, 64)
    if top_k:
        cache = build_cache(teacher, rows, settings, len(tokenizer), 0)
        cache.save(tmp_path / "logits", cache_identity(teacher_folder, rows, settings, 0))
    conditioner, batches = batches_of(recipe, training)
    if conditioner.tokens:
        conditioner.tokens.add_to(model, 0.02, 0)
    module = quiet(recipe.module(model, FinetuneConfig(loss=average)))
    module.prepare(training)
    batch = batches[0]
    encoded = [*encode_items(conditioner, long, 64), *encode_texts(conditioner, training.texts, 64)]
    with torch.no_grad():
        parts = [row_by_row(module, teacher, encoded[row], rows[row]) for row in batch["rows"].tolist()]
    each = [0.3 * plain + 0.7 * distilled for plain, distilled in parts]
    assert min(map(len, each)) < 6 and max(map(len, each)) > 15
    expected = torch.stack([row.mean() for row in each]).mean() if average == "row" else torch.cat(each).mean()
    for elements in (1 << 22, 5 * len(model.get_input_embeddings().weight)):
        monkeypatch.setattr(chunked_loss, "__defaults__", (elements,))
        assert module.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_distillation_moves_the_student_to_the_teacher_and_leaves_the_teacher_alone(
    model, tokenizer, sentences, anchors_and_projection, teacher_folder
):
    recipe = distilled(weight=1.0, temperature=1.0)
    folders = {"larger": teacher_folder.parent}
    training = make_training(tokenizer, sentences, anchors_and_projection, folders)
    module = quiet(recipe.module(model, FinetuneConfig(steps=60, learning_rate=1e-2)))
    module.prepare(training)
    _, batches = batches_of(recipe, training)
    before = [p.clone() for p in module.teacher.parameters()]
    optimiser = module.configure_optimizers()["optimizer"]
    trained = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in module.teacher.parameters()}
    first = module.loss(batches[0]).item()
    for step in range(60):
        optimiser.zero_grad()
        module.loss(batches[step % 6]).backward()
        optimiser.step()
    assert module.loss(batches[0]).item() < 0.6 * first
    assert all(torch.equal(a, b) for a, b in zip(before, module.teacher.parameters(), strict=True))


def test_weight_mixes_cross_entropy_and_distillation(
    model, tokenizer, sentences, anchors_and_projection, teacher_folder
):
    values = {}
    for weight in (1e-9, 0.25, 1.0):
        recipe = distilled(weight=weight)
        folders = {"larger": teacher_folder.parent}
        training = make_training(tokenizer, sentences, anchors_and_projection, folders)
        module = quiet(recipe.module(model, FinetuneConfig()))
        module.prepare(training)
        values[weight] = module.loss(batches_of(recipe, training)[1][0]).item()
    assert values[0.25] == pytest.approx(0.75 * values[1e-9] + 0.25 * values[1.0], rel=1e-5)


def test_stale_or_damaged_cache_is_refused(tmp_path, tokenizer, sentences, anchors_and_projection, teacher_folder):
    settings = Distill.Options(cache_top_k=5)
    training = make_training(tokenizer, sentences, anchors_and_projection)
    rows = plain_rows(tokenizer, training.items, training.texts, 64)
    identity = cache_identity(teacher_folder, rows, settings, 0)
    cache = build_cache(load_teacher(teacher_folder, tokenizer, 64), rows, settings, len(tokenizer), 0)
    cache.save(tmp_path / "c", identity)
    loaded = LogitCache.load(tmp_path / "c", identity)
    labels, sparse = loaded.take(torch.tensor([3, 45, 0]))
    assert labels.tolist() == [token for i in (3, 45, 0) for token in rows[i].ids[rows[i].loss_from :]]
    assert isinstance(sparse, Sparse) and sparse.ids.shape == (len(labels), 5)
    mass = sparse.log_p.exp().sum(1) + sparse.log_rest.exp()
    assert torch.allclose(mass, torch.ones(len(labels)), atol=1e-5)

    other_rows = cache_identity(teacher_folder, rows[:-1], settings, 0)
    other_tau = cache_identity(teacher_folder, rows, Distill.Options(cache_top_k=5, temperature=3.0), 0)
    teacher = create_model(SizeConfig(hidden_size=32, layers=1, heads=2, intermediate_size=32), tokenizer, seed=9)
    teacher.save_pretrained(tmp_path / "other")
    other_teacher = cache_identity(tmp_path / "other", rows, settings, 0)
    for stale, word in ((other_rows, "rows"), (other_tau, "temperature"), (other_teacher, "teacher")):
        with pytest.raises(UserError, match=f"stale cache of teacher logits, made with {word}") as caught:
            LogitCache.load(tmp_path / "c", stale)
        assert "\n" not in str(caught.value)
    (tmp_path / "c" / "logits.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a cache of teacher logits"):
        LogitCache.load(tmp_path / "c", identity)


def test_sampled_draws_repeat_for_a_seed_only(tokenizer, sentences, anchors_and_projection, teacher_folder):
    settings = Distill.Options(cache_top_k=4, tail="sample")
    training = make_training(tokenizer, sentences, anchors_and_projection)
    rows = plain_rows(tokenizer, training.items, training.texts, 64)
    teacher = load_teacher(teacher_folder, tokenizer, 64)
    ids = [build_cache(teacher, rows, settings, len(tokenizer), seed).tensors["ids"] for seed in (0, 0, 1)]
    assert torch.equal(ids[0], ids[1]) and not torch.equal(ids[0], ids[2])


@pytest.mark.parametrize("tail", ["sample", "rest"])
def test_a_cache_whose_making_was_killed_goes_on_to_the_same_bits(
    tail, tmp_path, tokenizer, sentences, anchors_and_projection, teacher_folder, monkeypatch
):
    monkeypatch.setattr(teacher_logits, "CHUNK", 16)
    monkeypatch.setattr(teacher_logits, "BATCH", 8)
    settings = Distill.Options(cache_top_k=4, tail=tail)
    training = make_training(tokenizer, sentences, anchors_and_projection)
    rows = plain_rows(tokenizer, training.items, training.texts, 64)
    teacher, vocabulary = load_teacher(teacher_folder, tokenizer, 64), len(tokenizer)
    undisturbed = build_cache(teacher, rows, settings, vocabulary, 0)

    class Killed(BaseException):
        pass

    def kill(done, total):
        if done == 32:
            raise Killed

    keep = partial(tensor_part, tmp_path)
    with pytest.raises(Killed):
        build_cache(teacher, rows, settings, vocabulary, 0, kill, keep)
    asked = []
    monkeypatch.setattr(teacher_logits, "_answers", counted(teacher_logits._answers, asked))
    resumed = build_cache(teacher, rows, settings, vocabulary, 0, keep=keep)
    assert len(asked) == -(-len(rows) // 16) - 2 > 0
    assert torch.equal(resumed.starts, undisturbed.starts)
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in undisturbed.tensors.items())


def counted(function, calls):
    def call(*given):
        calls.append(given)
        return function(*given)

    return call


def test_unfit_teachers_are_refused_with_one_line(tmp_path, tokenizer, sentences, teacher_folder):
    with pytest.raises(UserError, match="not a model folder") as caught:
        load_teacher(tmp_path / "none", tokenizer, 64)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="reads 64 tokens, the student 65"):
        load_teacher(teacher_folder, tokenizer, 65)
    smaller = train_tokenizer(sentences, TokenizerConfig(vocab_size=320))
    same_size = train_tokenizer([text[::-1] for text in sentences], TokenizerConfig(vocab_size=len(tokenizer)))
    for other in (smaller, same_size):
        with pytest.raises(UserError, match="another tokenizer") as caught:
            load_teacher(teacher_folder, other, 64)
        assert "\n" not in str(caught.value)


def test_a_padded_teacher_of_the_family_teaches_the_same(
    tmp_path, model, tokenizer, sentences, anchors_and_projection, teacher_folder
):
    padded = load_teacher(teacher_folder, tokenizer, 64)
    padded.resize_token_embeddings(len(tokenizer) + 64)
    padded.save_pretrained(tmp_path / "padded" / "model")
    tokenizer.save_pretrained(tmp_path / "padded" / "model")
    losses = []
    for folder in (teacher_folder, tmp_path / "padded" / "model"):
        recipe = distilled(model=str(folder))
        training = make_training(tokenizer, sentences, anchors_and_projection)
        module = quiet(recipe.module(model, FinetuneConfig()))
        module.prepare(training)
        losses.append(module.loss(batches_of(recipe, training)[1][0]).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_relational_keeps_the_pattern_of_the_projection(model, tokenizer, sentences, anchors_and_projection):
    recipe = Recipe.of("relational")
    training = make_training(tokenizer, sentences, anchors_and_projection)
    module = quiet(recipe.module(model, FinetuneConfig(steps=60, learning_rate=1e-2)))
    module.prepare(training)
    conditioner, batches = batches_of(recipe, training)
    assert conditioner.count == 0
    optimiser = module.configure_optimizers()["optimizer"]

    def relation(batch):
        return module.relation(hidden_states(model, batch["input_ids"]), batch["rows"])

    first = relation(batches[0]).item()
    for step in range(60):
        optimiser.zero_grad()
        module.loss(batches[step % 6]).backward()
        optimiser.step()
    assert relation(batches[0]).item() < 0.3 * first
    assert all(p.requires_grad for p in module.relation.head.parameters())


def test_relational_sees_the_cue_and_nothing_after_it(model, tokenizer, sentences, anchors_and_projection):
    """The loss of a row does not change with its question or answer, but does with its text."""
    recipe = Recipe.of("relational")
    training = make_training(tokenizer, sentences, anchors_and_projection)
    module = quiet(recipe.module(model, FinetuneConfig()))
    module.prepare(training)
    rows = plain_rows(tokenizer, training.items, training.texts, 64)
    for index in (0, 45):
        ids, end = torch.tensor([rows[index].ids]), int(module.relation.cues.ends[index])
        cue = training.items[0].text if index == 0 else training.texts[5].text[: training.texts[5].cut]
        assert tokenizer.decode(ids[0, 1:end]) == cue

        def relation(at: int) -> float:
            changed = ids.clone()  # noqa: B023
            changed[0, at] = (changed[0, at] + 7) % 300
            return module.relation(hidden_states(model, changed), torch.tensor([index])).item()  # noqa: B023

        same = module.relation(hidden_states(model, ids), torch.tensor([index])).item()
        assert relation(end) == pytest.approx(same, abs=1e-6) and relation(end - 1) != pytest.approx(same, abs=1e-6)


# ---- the plan


def planned(**overrides):
    cells = [
        {"method": "finetune", "sizes": ["1x", "3x"]},
        {"method": "finetune", "with": ["distill"]},
        {"method": "ecr", "with": ["distill"]},
    ]
    return make_plan(config.load("tiny").with_overrides({"cells": cells, **overrides}))


def by_label(plan):
    return {cell.label: plan.stages[cell.train] for cell in plan.cells}


def test_the_teacher_is_the_trained_larger_cell_and_is_planned_when_not_listed():
    listed = by_label(planned())
    assert listed["finetune+distill-1x-s0"].inputs["larger"] == listed["finetune-3x-s0"].id
    alone = planned(cells=[{"method": "finetune", "with": ["distill"], "seeds": [0, 1]}])
    assert sum(stage.kind == "score" for stage in alone.stages.values()) == 2
    assert [stage.kind for stage in alone.stages.values()].count("train") == 4
    assert by_label(alone)["finetune+distill-1x-s0"].id == listed["finetune+distill-1x-s0"].id
    seeds = [by_label(alone)[f"finetune+distill-1x-s{seed}"].inputs["larger"] for seed in (0, 1)]
    assert seeds[0] != seeds[1] and set(seeds) <= set(alone.stages)


def test_distill_settings_retrain_the_students_only():
    a, b = by_label(planned()), by_label(planned(**{"options.distill.weight": 0.9, "options.relational.weight": 2.0}))
    assert {label for label in a if a[label].id == b[label].id} == {"finetune-1x-s0", "finetune-3x-s0"}


def test_two_students_share_one_cache():
    plan = planned(**{"options.distill.cache_top_k": 8})
    stages = by_label(plan)
    assert [stage.kind for stage in plan.stages.values()].count("logits") == 1
    assert stages["finetune+distill-1x-s0"].inputs["logits"] == stages["ecr+distill-1x-s0"].inputs["logits"]


def test_missing_teachers_are_named_before_anything_runs(tmp_path, teacher_folder):
    with pytest.raises(UserError, match=r"options\.distill\.size: no size '9x': 'sizes' defines 1x, 3x"):
        planned(**{"options.distill.size": "9x"})
    with pytest.raises(UserError, match=r"options\.distill\.model: no weights"):
        planned(**{"options.distill.model": str(tmp_path)})
    outside = by_label(planned(**{"options.distill.model": str(teacher_folder)}))["finetune+distill-1x-s0"]
    assert "larger" not in outside.inputs
    options = outside.identity.settings["recipe"]["options"]
    assert options["distill"]["model"].startswith("content ")
