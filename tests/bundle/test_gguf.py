"""A Llama bundle as GGUF: the same model to who reads it back, the same prompts, and what cannot be one."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from ecr_bench.bundle.files import Meta, write_meta
from ecr_bench.bundle.gguf import FILE, interleaved, open_prompts, write_gguf
from ecr_bench.bundle.use import open_bundle
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from tests.helpers.public_sets import save_tiny_ecr

META = Meta(
    cell="ecr-1x-s0", arm="ecr-1x", seed=0, precision="fp32", stage="train/0", run="r", base_model=None,
    seen_languages=["en"], batch_tokens=2048, ecr_bench="0", commit=None, packages=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, tokenizer, anchors_and_projection):
    folder = save_tiny_ecr(tmp_path_factory.mktemp("gguf") / "bundle", tokenizer, anchors_and_projection)
    write_meta(folder, META)
    return folder


def test_who_reads_it_has_the_same_model_and_the_same_prompts(bundle, tmp_path, capsys):
    main(["gguf", str(bundle), str(tmp_path / "out")])
    assert FILE in capsys.readouterr().out
    ours = open_bundle(bundle)
    texts = ["the red lamp", "a door opens in the wall"]
    ids = [list(map(int, one)) for one in ours.tokenizer(texts)["input_ids"]]
    assert open_prompts(tmp_path / "out")(texts)["input_ids"] == ids
    tokens = ours.lm.conditioner.tokens
    assert all(sum(i >= tokens.first_id for i in one) == 3 for one in ids)
    # transformers' reader undoes what llama.cpp's layout does to queries and keys
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file=FILE, dtype=torch.float32).eval()
    assert model.config.vocab_size == ours.model.config.vocab_size
    for one in ids:
        with torch.no_grad():
            there, here = (found(torch.tensor([one])).logits for found in (model, ours.model))
        assert (there - here).abs().max() < 1e-4


def test_rotary_pairs_stand_side_by_side():
    weight = torch.arange(2 * 4)[:, None].float()  # two heads of four dimensions
    assert interleaved(weight, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_every_token_has_a_place(bundle, tmp_path):
    import gguf

    write_gguf(bundle, tmp_path / "out")
    fields = gguf.GGUFReader(tmp_path / "out" / FILE).fields
    ours = open_bundle(bundle)
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert len(tokens) == len(kinds) == len(set(tokens)) == ours.model.config.vocab_size
    block = ours.lm.conditioner.tokens
    assert set(kinds[block.first_id : block.first_id + block.size]) == {gguf.TokenType.CONTROL}
    assert all(tokens[index] == text for text, index in ours.lm.tokenizer.get_vocab().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int8"}, "holds int8 weights; export it in fp32 or bf16"),
        ({"model": "gpt2"}, "model_type is gpt2: only Llama models"),
        ({"rope": 1}, "rope_type is linear: only Llama models with rope_type default"),
        ({"there": 1}, "is there already"),
    ],
)
def test_what_cannot_be_one_is_one_line(bundle, tmp_path, change, message):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "bundle.json").unlink()
    if "model" in change:
        size = LlamaForCausalLM.from_pretrained(folder).config.vocab_size
        GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=8, n_layer=1, n_head=1)).save_pretrained(folder)
    if "rope" in change:
        model = LlamaForCausalLM.from_pretrained(folder)
        model.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
        model.save_pretrained(folder)
    if "there" in change:
        (tmp_path / "out").mkdir()
    write_meta(folder, META.model_copy(update={"precision": change.get("precision", "fp32")}))
    with pytest.raises(UserError, match=message):
        write_gguf(folder, tmp_path / "out")
    assert not (tmp_path / "out" / FILE).exists()
