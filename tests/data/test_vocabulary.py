"""A cut tokenizer reads its texts as before, gives kept ids only, and reads any other text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ecr_bench.data.tokenizer import save_own_tokenizer
from ecr_bench.data.vocabulary import CutVocabulary, check_cuttable, cut_vocabulary, load_kept
from ecr_bench.errors import UserError
from tests.helpers.tokenizer_kinds import BYTES, SPECIAL, sentences, tokenizer_of

CUTTABLE = ["byte", "byte-prefix-space", "byte-across-words", "llama", "metaspace-bpe"]
TEXTS = sentences(12)[::3]


def cut(kind: str, bos: bool = True) -> tuple[PreTrainedTokenizerFast, CutVocabulary]:
    whole = tokenizer_of(kind, bos)
    return whole, cut_vocabulary(whole, TEXTS, "model")


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("kind", CUTTABLE)
def test_the_texts_it_was_cut_to_are_read_as_before(kind, bos):
    whole, found = cut(kind, bos)
    kept = found.kept.tolist()
    assert kept == sorted(set(kept)) and len(kept) == len(found.tokenizer) < len(whole)
    for text in TEXTS:
        assert [kept[index] for index in found.tokenizer(text)["input_ids"]] == whole(text)["input_ids"]
    assert found.tokenizer.convert_ids_to_tokens(range(len(kept))) == whole.convert_ids_to_tokens(kept)


@pytest.mark.parametrize("kind", CUTTABLE)
@given(text=st.text(max_size=40))
@settings(max_examples=60)
def test_any_text_is_read_and_written_as_the_whole_tokenizer_does(kind, text):
    whole, found = cut(kind)
    ids = found.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert all(0 <= index < len(found.kept) for index in ids)
    if kind.startswith("byte") or "\x00" not in text:
        assert found.tokenizer.decode(ids) == whole.decode(whole(text, add_special_tokens=False)["input_ids"])
    if found.tokenizer.unk_token_id is not None and not kind.startswith("byte"):
        assert found.tokenizer.unk_token_id not in ids or "<unk>" in text


@pytest.mark.parametrize("kind", CUTTABLE)
def test_it_survives_saving_and_every_way_of_reading(kind, tmp_path):
    _, found = cut(kind)
    save_own_tokenizer(found.tokenizer, tmp_path)
    found.save(tmp_path)
    assert load_kept(tmp_path).equal(found.kept)
    again = AutoTokenizer.from_pretrained(str(tmp_path))
    strange = 'Zürich 𓀀 …\n\t"x"'
    for text in (*TEXTS, strange):
        assert again(text)["input_ids"] == found.tokenizer(text)["input_ids"]
    for role in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(again, role) == getattr(found.tokenizer, role)


def test_cutting_to_the_same_texts_again_changes_nothing():
    _, once = cut("byte-across-words")
    twice = cut_vocabulary(once.tokenizer, TEXTS, "model")
    assert twice.kept.tolist() == list(range(len(once.kept)))


def test_a_word_that_is_taken_whole_is_kept_without_its_merges():
    """Llama 3 looks whole words up before it merges."""
    whole = tokenizer_of("byte")
    rules = json.loads(whole.backend_tokenizer.to_str())
    rules["model"]["ignore_merges"] = True
    last = max(rules["model"]["vocab"].values()) + 1
    rules["model"]["vocab"]["Ġunmergeable"] = last
    wrapped = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)), eos_token="</s>")
    found = cut_vocabulary(wrapped, ["x unmergeable"], "model")
    assert last in found.kept.tolist() and "Ġunmergeable" in found.tokenizer.tokenize("x unmergeable")


def test_post_processors_of_every_form_get_the_new_ids():
    whole = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_of("byte").backend_tokenizer.to_str()), eos_token="</s>"
    )
    place = whole.backend_tokenizer.token_to_id
    inner = processors.RobertaProcessing(("</s>", place("</s>")), ("<s>", place("<s>")))
    whole.backend_tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), inner])
    found = cut_vocabulary(whole, TEXTS, "model")
    assert found.tokenizer.tokenize("a", add_special_tokens=True)[:1] == ["<s>"]
    kept = found.kept.tolist()
    assert [kept[i] for i in found.tokenizer(TEXTS[0])["input_ids"]] == whole(TEXTS[0])["input_ids"]


@given(text=st.text(max_size=30))
@settings(max_examples=60)
def test_a_byte_level_tokenizer_that_lacks_bytes_reads_no_text_worse_than_before(text):
    """As SmolLM2's, which has no token for 21 of them."""
    rules = json.loads(tokenizer_of("byte").backend_tokenizer.to_str())
    lost = {"Ā", "ğ", "À", "ý", "÷"}
    old = [name for name in sorted(rules["model"]["vocab"], key=rules["model"]["vocab"].get) if not lost & set(name)]
    rules["model"]["vocab"] = {name: index for index, name in enumerate(old)}
    merges = rules["model"]["merges"]
    rules["model"]["merges"] = [pair for pair in merges if {*pair, "".join(pair)} <= set(old)]
    for one in rules["added_tokens"]:
        one["id"] = rules["model"]["vocab"][one["content"]]
    rules["post_processor"] = None
    whole = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)), eos_token="</s>")
    found = cut_vocabulary(whole, TEXTS, "model").tokenizer
    assert found.decode(found(text)["input_ids"]) == whole.decode(whole(text)["input_ids"])


def changed(kind: str, **model: object) -> PreTrainedTokenizerFast:
    rules = json.loads(tokenizer_of(kind).backend_tokenizer.to_str())
    rules["model"] |= model
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(rules)), eos_token="</s>")


def no_bytes() -> PreTrainedTokenizerFast:
    vocabulary = {name: index for index, name in enumerate([*SPECIAL, *BYTES[:-3], "a", "b"])}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (lambda: tokenizer_of("unigram"), "its model is Unigram, not BPE"),
        (lambda: tokenizer_of("wordpiece"), "its model is WordPiece, not BPE"),
        (lambda: changed("llama", byte_fallback=False), "it is neither byte-level nor has it byte_fallback"),
        (no_bytes, "it has no token for 3 of 256 bytes"),
        (lambda: changed("byte", dropout=0.1), "its dropout is 0.1"),
        (lambda: changed("byte", end_of_word_suffix="</w>"), "its end_of_word_suffix is '</w>'"),
    ],
)
def test_tokenizers_that_cannot_be_cut_are_one_line(tokenizer, reason):
    with pytest.raises(UserError, match=f"model 'x': vocabulary: corpus: .* cannot be cut: {reason}") as caught:
        check_cuttable(tokenizer(), "model 'x'")
    assert "\n" not in str(caught.value)
