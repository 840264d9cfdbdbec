"""The teacher's cached logits: which teachers and caches are refused, how a killed one goes on."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from ecr_bench.config import FinetuneConfig, SizeConfig, TokenizerConfig
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.errors import UserError
from ecr_bench.methods import teacher_logits
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import Sparse
from ecr_bench.methods.models import create_model
from ecr_bench.methods.teacher_logits import LogitCache, build_cache, cache_identity, load_teacher, plain_rows
from ecr_bench.stages.parts import tensor_part
from tests.helpers.distillation import batches_of, distilled, make_training, quiet


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
