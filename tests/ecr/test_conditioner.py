"""The conditioner: placement, the leak rule, truncation, and that it survives saving."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from ecr_bench.data.encode import encode_items
from ecr_bench.ecr.codes import ConstantCodes, LanguageCodes, ProjectionCodes, RandomCodes, ShuffledCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens, place
from ecr_bench.ecr.cue import cue_of, prompt_for
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import prompts_of
from ecr_bench.items.registry import TASKS, task_name
from ecr_bench.types import Item, Prompt

PLACEMENTS = ["prefix", "infix", "suffix", "interleaved"]


@pytest.fixture
def ecr(tokenizer, anchors_and_projection):
    anchors, projection = anchors_and_projection
    source = ProjectionCodes(tokenizer, projection, anchors, 3)
    return Conditioner(tokenizer, source, ControlTokens(len(tokenizer), 8), 3)


def test_place_puts_tokens_where_the_placement_says():
    ids, control = [0, 11, 12, 13, 14], [91, 92]
    assert place(ids, control, "prefix", 3) == [0, 91, 92, 11, 12, 13, 14]
    assert place(ids, control, "infix", 3) == [0, 11, 12, 91, 92, 13, 14]
    assert place(ids, control, "suffix", 3) == [0, 11, 12, 13, 14, 91, 92]
    assert place(ids, control, "interleaved", 3) == [0, 91, 11, 12, 92, 13, 14]


@given(
    body=st.lists(st.integers(1, 50), max_size=12),
    control=st.lists(st.integers(90, 99), max_size=6),
    placement=st.sampled_from(PLACEMENTS),
    data=st.data(),
)
def test_place_keeps_bos_first_and_both_orders(body, control, placement, data):
    ids = [0, *body]
    question = data.draw(st.integers(1, len(ids)))
    placed = place(ids, control, placement, question)
    assert placed[0] == 0
    assert [i for i in placed if i < 90] == ids
    assert [i for i in placed if i >= 90] == control


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_infix_stands_between_text_and_question(ecr, placement):
    ecr.placement = placement
    encoded = ecr.encode([Prompt("turn on lamp\nintent:", "turn on lamp")])[0]
    before = encoded.ids[: encoded.ids.index(encoded.control_tokens[0])]
    text = ecr.tokenizer.decode(before, skip_special_tokens=True)
    stands_after = {"prefix": "", "infix": "turn on lamp", "suffix": "turn on lamp\nintent:", "interleaved": ""}
    assert text == stands_after[placement]


def test_no_cue_gives_null_tokens(ecr):
    for cue in (None, "", "  "):
        assert ecr.encode([Prompt("lamp", cue)])[0].control_tokens == [ecr.tokens.null_id] * 3


def test_tokenisation_of_text_is_untouched_by_ecr(ecr, tokenizer):
    plain = Conditioner(tokenizer)
    prompts = [Prompt("turn on lamp\nintent:", "turn on lamp")]
    with_codes = ecr.encode(prompts)[0]
    assert [i for i in with_codes.ids if i < len(tokenizer)] == plain.encode(prompts)[0].ids
    assert plain.encode(prompts)[0].ids == tokenizer("turn on lamp\nintent:")["input_ids"]


def test_text_cannot_spell_a_control_token(ecr, tokenizer):
    ids = tokenizer("<|ecr_1|> <ecr:3> \u0000")["input_ids"]
    assert max(ids) < ecr.tokens.first_id


@settings(max_examples=40)
@given(cue=st.text(max_size=40), length=st.integers(5, 30))
def test_truncation_never_eats_control_tokens(ecr_session, cue, length):
    encoded = ecr_session.encode([Prompt(cue * 3 + "\nintent:", cue)], max_tokens=length)[0]
    assert len(encoded.ids) <= length
    assert [i for i in encoded.ids if i >= ecr_session.tokens.first_id] == encoded.control_tokens
    assert len(encoded.control_tokens) == 3


@pytest.fixture(scope="module")
def ecr_session(tokenizer, anchors_and_projection):
    anchors, projection = anchors_and_projection
    source = ProjectionCodes(tokenizer, projection, anchors, 3)
    return Conditioner(tokenizer, source, ControlTokens(len(tokenizer), 8), 3)


def test_window_without_room_is_one_clear_error(ecr):
    with pytest.raises(UserError, match="no room for 3 control tokens"):
        ecr.encode([Prompt("lamp", "lamp")], max_tokens=4)


def test_codes_only_hides_the_text(ecr):
    ecr.drop_cue = True
    ids = ecr.encode([Prompt("turn on lamp\nintent:", "turn on lamp")])[0].ids
    text = ecr.tokenizer.decode([i for i in ids if i < ecr.tokens.first_id], skip_special_tokens=True)
    assert "lamp" not in text and "intent" in text


FOUR = st.lists(st.text(max_size=12), min_size=4, max_size=4)


@settings(max_examples=60)
@given(
    task=st.sampled_from(list(TASKS)),
    text=st.text(min_size=1, max_size=30),
    answers=st.tuples(FOUR, FOUR),
    golds=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    questions=st.tuples(st.text(max_size=10), st.text(max_size=10)),
    clusters=st.tuples(st.text(max_size=8), st.text(max_size=8)),
)
def test_no_answer_label_or_later_text_reaches_a_control_token(
    ecr_session, task, text, answers, golds, questions, clusters
):
    """The leak rule on every task, in training and in scoring: only ``text`` counts."""
    items = [
        Item(f"i{k}", task, "fine", clusters[k], "en", ("en", "de")[k], text, questions[k], tuple(answers[k]), golds[k])
        for k in (0, 1)
    ]
    trained = [
        [i for i in row.ids[: row.loss_from] if i >= ecr_session.tokens.first_id]
        for row in encode_items(ecr_session, items, 64)
    ]
    requests = [
        Instance("loglikelihood", {**asdict(item), "prompt": item.prompt}, (item.prompt, f" {choice}"), k,
                 metadata=(task_name(item), k, 1))
        for k, item in enumerate(items)
        for choice in item.choices
    ]  # fmt: skip
    scored = ecr_session.control_tokens(prompts_of(requests))
    assert all(tokens == trained[0] for tokens in [*trained, *scored])


def test_the_text_itself_does_count(ecr_session, sentences):
    """Otherwise the property above would hold of a conditioner that looks at nothing."""
    tokens = ecr_session.control_tokens([Prompt(s, s) for s in sentences])
    assert len(set(map(tuple, tokens))) > 10


def test_a_task_outside_the_table_gets_null_tokens(ecr):
    """Text before the options may hold them, so nothing undeclared is looked at."""
    doc = {"question": "Which one?", "choices": ["the boat", "the board"], "answer": 1}
    prompt = prompt_for("some_public_task", doc, "Which one? A. the boat B. the board Answer:")
    assert cue_of("some_public_task", doc) is None and prompt.cue is None
    assert ecr.control_tokens([prompt]) == [[ecr.tokens.null_id] * 3]


def test_projection_codes_ignore_the_language(ecr):
    a, b = (ecr.control_tokens([Prompt("lamp", "red lamp", lang)]) for lang in ("en", "ru"))
    assert a == b


@pytest.mark.parametrize(
    "source",
    [
        RandomCodes(3, 8),
        ConstantCodes(3, 8),
        LanguageCodes(3, 16, languages=["de", "en"]),
        ShuffledCodes(torch.arange(30).reshape(10, 3) % 8),
    ],
)
def test_controls_survive_saving_and_stay_in_range(source, tokenizer, tmp_path, sentences):
    before = Conditioner(tokenizer, source, ControlTokens(len(tokenizer), 16), 3, "suffix")
    before.save(tmp_path / "c")
    after = Conditioner.load(tmp_path / "c", tokenizer)
    prompts = [Prompt(s, s, "en") for s in sentences[:20]]
    assert before.encode(prompts) == after.encode(prompts)
    codes = source([p.cue for p in prompts], ["en"] * 20)
    assert codes.shape == (20, 3) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < 16


def test_ecr_survives_saving_without_a_teacher(ecr, tokenizer, tmp_path, sentences):
    ecr.save(tmp_path / "c")
    prompts = [Prompt(s, s) for s in sentences[:20]]
    assert Conditioner.load(tmp_path / "c", tokenizer).encode(prompts) == ecr.encode(prompts)


def test_a_codebook_too_small_for_the_language_control_is_refused():
    with pytest.raises(UserError, match="needs at least 4"):
        LanguageCodes(3, 3, languages=["de", "en", "fr"])


@pytest.mark.parametrize(("k", "count"), [(18, 1), (256, 16), (18, 32)])
def test_the_language_control_tells_every_language_at_every_position(k, count):
    languages = [f"x{i}" for i in range(17)]
    codes = LanguageCodes(count, k, languages=languages)(["a"] * 18, [*languages, "other"])
    assert codes.min() >= 0 and codes.max() < k
    assert all(len(set(codes[:, position].tolist())) == 18 for position in range(count))


def test_what_each_control_removes(tokenizer):
    texts = ["red lamp", "blue lamp", "open door"]
    constant, language = ConstantCodes(3, 8), LanguageCodes(3, 32, languages=["de", "en"])
    assert len(set(map(tuple, constant(texts, ["en"] * 3).tolist()))) == 1
    assert len(set(map(tuple, language(texts, ["en", "de", "en"]).tolist()))) == 2
    assert len(set(map(tuple, RandomCodes(3, 256)(texts, ["en"] * 3).tolist()))) == 3


def test_new_rows_differ_and_old_rows_stay(model, tokenizer):
    old = model.get_input_embeddings().weight.detach().clone()
    block = ControlTokens(len(tokenizer), 8)
    block.add_to(model, std=0.02, seed=0)
    new = model.get_input_embeddings().weight.detach()
    assert torch.equal(new[: len(old)], old)
    rows = new[block.first_id : block.null_id + 1]
    assert rows.shape[0] == 9 and 0.01 < rows.std() < 0.03
    assert torch.pdist(rows).min() > 0.01
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_residual_levels_have_tokens_of_their_own():
    block = ControlTokens(100, 8, levels=2)
    ids = block.ids(torch.tensor([[3, 3]]))
    assert ids.tolist() == [[103, 111]] and block.null_id == 116 and block.size == 17
