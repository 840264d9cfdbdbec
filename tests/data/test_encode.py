"""Encoding and batching: same rows and order in every arm, loss on the right tokens."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.data.cutting import cut_texts
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.data.module import IGNORED, ExamplesDataModule, Mixture, collate, plan_batches
from ecr_bench.data.tokenizer import load_tokenizer
from ecr_bench.ecr.codes import ConstantCodes, RandomCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.types import Item
from tests.helpers.rows import whole_rows


def item(text="red lamp", gold=1):
    return Item("i", "intent", "coarse", "c", "en", "en", text, "intent:", ("open", "close door", "on", "off"), gold)


@pytest.fixture
def conditioner(tokenizer):
    return Conditioner(tokenizer, RandomCodes(2, 8), ControlTokens(len(tokenizer), 8), 2)


def test_tokenizer_round_trips_any_text_and_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = "küche 电灯 🙂\nend"
    ids = again(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"] and ids[0] == again.bos_token_id
    assert again.decode(ids, skip_special_tokens=True) == text


def test_loss_covers_answer_and_eos_only(conditioner, tokenizer):
    row = encode_items(conditioner, [item()], 64)[0]
    assert tokenizer.decode(row.ids[row.loss_from :]) == " close door<|eos|>"
    batch = collate([row], tokenizer.pad_token_id)
    wanted = batch["labels"][0] != IGNORED
    assert batch["labels"][0][wanted].tolist() == row.ids[row.loss_from :]
    # position t predicts token t + 1
    assert wanted.nonzero()[0].item() == row.loss_from - 1


def test_long_prompts_lose_text_but_no_control_token(conditioner, tokenizer):
    short, long = encode_items(conditioner, [item("red lamp " * 60, gold) for gold in (0, 1)], 32)
    # room for the longest option, as in scoring: after it the window ends before EOS
    assert short.ids[: short.loss_from] == long.ids[: long.loss_from] and len(long.ids) == 32 + 1
    assert sum(i >= len(tokenizer) for i in long.ids) == 2
    assert tokenizer.decode(short.ids[short.loss_from :]) == " open<|eos|>"
    assert tokenizer.decode(long.ids[long.loss_from :]) == " close door"
    assert collate([short, long], 0)["input_ids"].shape == (2, 32)


def test_codes_of_unlabelled_text_see_its_beginning_only(conditioner, tokenizer):
    (row,) = cut_texts(tokenizer, [("red lamp in the garden", "en")], seed=3)
    changed = row.__class__(row.text[: row.cut] + "xyz", row.lang, row.cut)
    a, b = encode_texts(conditioner, [row, changed], 64)
    assert a.ids[: a.loss_from] == b.ids[: b.loss_from]
    assert 0 < row.cut < len(row.text)


def test_arms_share_rows_and_order(tokenizer, sentences):
    items = [item(text, i % 4) for i, text in enumerate(sentences)]
    texts = cut_texts(tokenizer, [(s, "en") for s in sentences], 0)
    plans = []
    for arm in (
        Conditioner(tokenizer),
        Conditioner(tokenizer, ConstantCodes(4, 8), ControlTokens(len(tokenizer), 8), 4, "suffix"),
    ):
        mixture = Mixture(encode_items(arm, items, 64), encode_texts(arm, texts, 64), 0.25)
        data = ExamplesDataModule(mixture, [], tokenizer.pad_token_id, 16, 40, seed=1)
        plans.append(data.batches)
        batches = list(data.train_dataloader())
        assert len(batches) == 40 and batches[0]["input_ids"].shape[0] == 16
    assert plans[0] == plans[1]


def test_batches_hold_the_share_of_text_and_cover_all_rows():
    lengths = list(range(100)) + [5] * 50
    plan = plan_batches(lengths, labelled=100, text_share=0.25, batch_size=16, steps=100, seed=0)
    assert all(sum(i >= 100 for i in batch) == 4 for batch in plan)
    assert {i for batch in plan for i in batch} == set(range(150))
    assert plan != plan_batches(lengths, 100, 0.25, 16, 100, seed=1)
    assert plan == plan_batches(lengths, 100, 0.25, 16, 100, seed=0)


def test_pretraining_rows_have_loss_everywhere_but_bos(tokenizer):
    row = whole_rows(tokenizer, ["red lamp"], 64)[0]
    assert row.ids[0] == tokenizer.bos_token_id and row.ids[-1] == tokenizer.eos_token_id and row.loss_from == 1


def test_padding_does_not_change_the_loss(model, tokenizer, sentences):
    from ecr_bench.methods.base import cross_entropy

    rows = whole_rows(tokenizer, sentences[:8], 64)
    together = cross_entropy(model, collate(rows, tokenizer.pad_token_id))
    weights = torch.tensor([float(len(r.ids) - 1) for r in rows])
    alone = torch.stack([cross_entropy(model, collate([r], tokenizer.pad_token_id)) for r in rows])
    assert torch.allclose(together, (alone * weights).sum() / weights.sum(), atol=1e-5)


def test_loss_equals_transformers_own(model, tokenizer, sentences):
    from ecr_bench.methods.base import cross_entropy

    (row,) = whole_rows(tokenizer, sentences[:1], 64)
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        assert torch.allclose(cross_entropy(model, collate([row], 0)), model(ids, labels=ids).loss, atol=1e-5)
