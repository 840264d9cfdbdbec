"""Distillation as a loss: alignment with the teacher, its averages, and training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ecr_bench.config import ControlTokensConfig, FinetuneConfig
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.fast.chunked import chunked_loss
from ecr_bench.methods.method import Ingredients, Method
from ecr_bench.methods.teacher_logits import build_cache, cache_identity, load_teacher, plain_rows
from tests.helpers.distillation import batches_of, distilled, make_training, quiet


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
