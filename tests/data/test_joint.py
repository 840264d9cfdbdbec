"""Training sees what scoring sees: for every kind of tokenizer, script and place of control tokens, the same ids."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import LlamaConfig, LlamaForCausalLM

from ecr_bench.config import FinetuneConfig
from ecr_bench.data.cutting import SHARE, TextRow, cut_texts
from ecr_bench.data.encode import ask, encode_items, encode_texts
from ecr_bench.data.joint import encode_contexts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.ecr.codes import RandomCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.pooled import pooled_states
from ecr_bench.evaluation.run import evaluate, load_item_tasks
from ecr_bench.items.files import write_items
from ecr_bench.items.registry import document, task_name
from ecr_bench.methods.module import CausalLMModule
from ecr_bench.methods.teacher_logits import plain_rows
from ecr_bench.stages.fitting import fit
from ecr_bench.types import Item, Prompt
from tests.evaluation.test_lm import METADATA
from tests.helpers.rows import whole_rows
from tests.helpers.tokenizer_kinds import KINDS, LANGUAGES, sentence, tokenizer_of

COUNT, K, WINDOW = 3, 8, 256
ARMS = ["plain", "prefix", "infix", "suffix", "interleaved", "codes-only"]
QUESTIONS = ["Which room?", "哪个房间？", "", "ที่ไหน", "أين "]


def llama(vocabulary: int, **more: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, **more}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=WINDOW, **shape)).eval()


def conditioner_of(arm: str, kind: str, bos: bool = True) -> Conditioner:
    tokenizer = tokenizer_of(kind, bos)
    if arm == "plain":
        return Conditioner(tokenizer)
    placement: Any = "prefix" if arm == "codes-only" else arm
    tokens = ControlTokens(len(tokenizer), K)
    return Conditioner(tokenizer, RandomCodes(COUNT, K), tokens, COUNT, placement, arm == "codes-only")


def scorer(conditioner: Conditioner, max_length: int = WINDOW) -> EcrLM:
    model = llama(len(conditioner.tokenizer) + K + 1)
    return EcrLM(model, tokenizer=conditioner.tokenizer, conditioner=conditioner, max_length=max_length)


def item(rng: random.Random, number: int = 0, lang: str = "en") -> Item:
    choices = tuple({sentence(rng, lang, 1, 4): None for _ in range(4)})
    text, question = sentence(rng, lang), rng.choice(QUESTIONS)
    return Item(f"i{number}", "intent", "coarse", "c", lang, lang, text, question, choices, rng.randrange(len(choices)))


def requests_of(items: list[Item]) -> list[Instance]:
    return [
        Instance("loglikelihood", document(one), (one.prompt, f" {choice}"), i, metadata=(task_name(one), number, 1))
        for number, one in enumerate(items)
        for i, choice in enumerate(one.choices)
    ]


def compare(lm: EcrLM, items: list[Item], max_length: int) -> None:
    """Each item's training row against the requests of all its options."""
    assert lm.conditioner is not None
    eos = lm.conditioner.tokenizer.eos_token_id
    scored = iter(lm.encode(requests_of(items)))
    for one, row in zip(items, encode_items(lm.conditioner, items, max_length), strict=True):
        options = [next(scored) for _ in one.choices]
        context, answer = tuple(row.ids[: row.loss_from]), tuple(row.ids[row.loss_from :])
        assert all(option.context == context for option in options)
        full = len(context) + len(options[one.gold].continuation) == max_length + 1
        assert answer == options[one.gold].continuation + (() if full else (eos,))
        assert len(row.ids) - 1 <= max_length


@settings(max_examples=60)
@given(
    kind=st.sampled_from(list(KINDS)),
    lang=st.sampled_from(LANGUAGES),
    arm=st.sampled_from(ARMS),
    bos=st.booleans(),
    window=st.sampled_from([WINDOW, 60, 45]),
    seed=st.integers(0, 1 << 20),
)
def test_trained_as_scored(kind, lang, arm, bos, window, seed):
    rng, conditioner = random.Random(seed), conditioner_of(arm, kind, bos)
    items = [item(rng, number, lang) for number in range(3)]
    try:
        compare(scorer(conditioner, window), items, window)
    except UserError as error:  # both refuse: some tokenizers need many tokens for some scripts, or merge everything
        assert "no room for its prompt" in str(error) or "adds no token" in str(error)
        with pytest.raises(UserError, match=r"item i\d"):
            encode_items(conditioner, items, window)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_arm_is_trained_and_scored_as_stock_lm_eval_scores(kind, lang):
    conditioner, rng = conditioner_of("plain", kind), random.Random(7)
    items = [item(rng, number, lang) for number in range(8)]
    stock = HFLM(llama(len(conditioner.tokenizer)), tokenizer=conditioner.tokenizer, add_bos_token=True)
    rows = encode_items(conditioner, items, WINDOW)
    for one, row in zip(items, rows, strict=True):
        context, continuation = stock._encode_pair(one.prompt, f" {one.choices[one.gold]}")
        assert row.ids == [*context, *continuation, conditioner.tokenizer.eos_token_id]
    compare(scorer(conditioner), items, WINDOW)


@pytest.mark.parametrize("arm", ["plain", "prefix"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_requests_that_lm_eval_makes_are_the_rows_of_training(kind, arm, tmp_path, monkeypatch):
    """Through items on disk, the YAML of the task, lm-eval's own building of requests and back."""
    rng = random.Random(1)
    items = [item(rng, number, lang) for number, lang in enumerate(LANGUAGES * 2)]
    items = [replace(one, lang="de", target_lang="de") for one in items]
    write_items(tmp_path, items)
    _, tasks = load_item_tasks(tmp_path, ["ecr_intent_de"])
    lm, seen = scorer(conditioner_of(arm, kind)), []
    monkeypatch.setattr(lm, "_score", lambda encoded, _: seen.extend(encoded) or [(-1.0, False)] * len(encoded))
    evaluate(lm, tasks, metadata=METADATA)
    assert lm.conditioner is not None
    trained = {tuple(row.ids[:-1]) for row in encode_items(lm.conditioner, items, WINDOW)}
    assert len(trained) == len(items)
    assert trained <= {request.context + request.continuation for request in seen}


@settings(max_examples=60)
@given(
    kind=st.sampled_from(list(KINDS)),
    lang=st.sampled_from(LANGUAGES),
    arm=st.sampled_from(ARMS[:-1]),
    bos=st.booleans(),
    seed=st.integers(0, 1 << 20),
)
def test_a_text_is_cut_between_tokens_of_the_whole(kind, lang, arm, bos, seed):
    rng, conditioner = random.Random(seed), conditioner_of(arm, kind, bos)
    tokenizer, texts = conditioner.tokenizer, [sentence(rng, lang, 1, 12) for _ in range(4)]
    rows = cut_texts(tokenizer, [(text, lang) for text in texts], seed)
    for row, example in zip(rows, encode_texts(conditioner, rows, WINDOW), strict=True):
        whole = tokenizer(row.text, add_special_tokens=False)["input_ids"]
        text = [i for i in example.ids if i < len(tokenizer)]
        start = conditioner.prefix or ([] if row.cut or arm != "plain" else [tokenizer.eos_token_id])
        assert text == [*start, *whole, tokenizer.eos_token_id]
        assert 0 <= row.cut < len(row.text) and not row.text[: row.cut].endswith(" ")
        assert example.loss_from == len(example.ids) - 1 - len(whole) + len(
            tokenizer(row.text[: row.cut], add_special_tokens=False)["input_ids"]
        )


@pytest.mark.parametrize("lang", ["en", "ar", "ko", "hi"])
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_not_taken_apart(kind, lang):
    rng, tokenizer = random.Random(3), tokenizer_of(kind)
    for row in cut_texts(tokenizer, [(sentence(rng, lang, 8, 14), lang) for _ in range(40)], 0):
        low, high = (share * len(row.text) for share in SHARE)
        assert low <= row.cut <= high
        assert not (row.text[row.cut - 1].isalnum() and row.text[row.cut].isalnum())


def test_what_cannot_be_cut_has_its_loss_on_everything():
    tokenizer = tokenizer_of("byte")
    rows = cut_texts(tokenizer, [(" ", "en"), ("a", "en"), ("灯", "zh"), ("e\u0301", "en")], 0)
    assert [row.cut for row in rows] == [0, 0, 0, 0] and cut_texts(tokenizer, [], 0) == []
    (row,) = encode_texts(conditioner_of("prefix", "byte"), rows[1:2], 64)
    null = ControlTokens(len(tokenizer), K).null_id
    assert row.ids[: row.loss_from] == [tokenizer.bos_token_id, *[null] * COUNT]
    # spaces in a row are one token at the end of a text and two before a word: no place to cut
    (spaces,) = cut_texts(tokenizer, [("lamp\n\n\ndoor", "en")], 0)
    assert spaces.text[: spaces.cut] == "lamp"


@pytest.mark.parametrize("kind", KINDS)
def test_all_who_read_a_prompt_read_the_same_ids(kind):
    """Pooling, generation and the cache of teacher logits see the context of scoring."""
    conditioner, rng = conditioner_of("prefix", kind), random.Random(5)
    lm, items = scorer(conditioner), [item(rng, number) for number in range(4)]
    contexts = [list(request.context) for request in lm.encode(requests_of(items))]
    expected = [list(context) for context in dict.fromkeys(map(tuple, contexts))]
    prompts = [question.prompt for question in ask(items)]
    spaced = [replace(prompt, text=f"{prompt.text} \n") for prompt in prompts]
    for given_prompts in (prompts, spaced):
        found = encode_contexts(conditioner, given_prompts, [None] * len(items))
        assert [context.ids for context in found] == expected
    seen: list[list[int]] = []

    def keep(_: Any, __: Any, named: dict[str, Any]) -> None:
        seen.extend(named["input_ids"].tolist())

    lm.model.base_model.register_forward_pre_hook(keep, with_kwargs=True)
    texts = [one.text for one in items]
    pooled_states(lm.model, conditioner, [f"{text} " for text in texts], ["en"] * len(texts))
    wanted = [context.ids for context in conditioner.encode([Prompt(text, f"{text} ") for text in texts])]
    assert sorted(row[: len(ids)] for row, ids in zip(sorted(seen), sorted(wanted), strict=True)) == sorted(wanted)
    seen.clear()
    asked = [(f"{prompt.text} ", {"until": [], "max_gen_toks": 1}) for prompt in prompts]
    docs = [document(one) for one in items]
    lm.generate_until(
        [
            Instance("generate_until", doc, pair, 0, metadata=(task_name(one), i, 1))
            for i, (one, doc, pair) in enumerate(zip(items, docs, asked, strict=True))
        ]
    )
    assert sorted(row[-len(ids) :] for row, ids in zip(sorted(seen), sorted(expected), strict=True)) == sorted(expected)
    texts_cut = cut_texts(conditioner.tokenizer, [(text, "en") for text in texts], 0)
    student = [*encode_items(conditioner, items, WINDOW), *encode_texts(conditioner, texts_cut, WINDOW)]
    for ours, theirs in zip(student, plain_rows(conditioner.tokenizer, items, texts_cut, WINDOW), strict=True):
        assert ours.ids[ours.loss_from :] == theirs.ids[theirs.loss_from :]
        assert [i for i in ours.ids if i < len(conditioner.tokenizer)] == theirs.ids


@pytest.mark.parametrize("kind", KINDS)
def test_pretraining_reads_what_the_tokenizer_gives(kind):
    tokenizer = tokenizer_of(kind)
    (row,) = whole_rows(tokenizer, ["turn on the lamp"], WINDOW)
    assert row.ids == [*tokenizer("turn on the lamp")["input_ids"], tokenizer.eos_token_id] and row.loss_from == 1


def test_a_row_without_a_cut_is_still_a_row():
    row = TextRow("turn on the lamp", "en", 0)
    (example,) = encode_texts(conditioner_of("plain", "llama"), [row], WINDOW)
    assert example.loss_from == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "byte", "unigram"])
def test_what_is_learnt_by_heart_is_answered(kind, tmp_path):
    """Near zero loss in training is near 1.0 in scoring."""
    rng, conditioner = random.Random(0), conditioner_of("plain", kind)
    items = [replace(item(rng, number), question="Which room?") for number in range(48)]
    rows = encode_items(conditioner, items, WINDOW)
    model = llama(len(conditioner.tokenizer), hidden_size=64, intermediate_size=96).train()
    finetune = FinetuneConfig(steps=300, batch_size=48, learning_rate=0.02)
    data = ExamplesDataModule(Mixture(rows, [], 0.0), [], 3, 48, finetune.steps, 0)
    stats = fit(CausalLMModule(model, finetune), data, finetune, 0, tmp_path, lambda done, total: None)
    assert stats.train_loss < 0.05
    lm = EcrLM(model.eval(), tokenizer=conditioner.tokenizer, conditioner=conditioner, max_length=WINDOW)
    scores = iter(lm.loglikelihood(requests_of(items)))
    right = 0
    for one in items:
        found = [next(scores)[0] for _ in one.choices]
        right += found.index(max(found)) == one.gold
    assert right >= 0.97 * len(items)
