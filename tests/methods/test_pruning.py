"""Models with fewer layers and tokens: what is left computes what it did, in memory and read from a folder."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from ecr_bench.data.tokenizer import own_tokenizer
from ecr_bench.data.vocabulary import cut_vocabulary
from ecr_bench.errors import UserError
from ecr_bench.methods.layer_choice import check_count, check_layers, ends, even
from ecr_bench.methods.pretrained import load_pretrained
from ecr_bench.methods.pruning import greedy_layers, keep_layers, keep_tokens
from ecr_bench.sizes import PretrainedSize
from tests.helpers.tiny_models import save, sentence

KINDS = ["llama", "qwen2", "qwen3", "gemma3"]
LAYERS = 7
TEXTS = [sentence(number, locale) for number in range(3) for locale in ("de-DE", "sw-KE")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("deep")
    return {kind: save(kind, root / kind, layers=LAYERS) for kind in KINDS}


def opened(folder):
    size = PretrainedSize(model=str(folder), max_length=128)
    tokenizer = own_tokenizer(size.model, size.max_length)
    return load_pretrained(size, tokenizer, torch.float32), tokenizer


def long_ids(tokenizer):
    """Longer than the sliding window of Gemma (16)."""
    ids = torch.tensor([tokenizer(" ".join(TEXTS))["input_ids"]])
    assert ids.shape[1] > 40
    return ids


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_of_the_kept_tokens_are_those_of_the_whole_model(folders, kind, tmp_path):
    model, tokenizer = opened(folders[kind])
    ids = long_ids(tokenizer)
    cut = cut_vocabulary(tokenizer, TEXTS, "model")
    new = torch.tensor([cut.tokenizer(" ".join(TEXTS))["input_ids"]])
    assert cut.kept[new].equal(ids)
    expected = model(ids).logits[..., cut.kept]
    size = PretrainedSize(model=str(folders[kind]), max_length=128)
    small = load_pretrained(size, cut.tokenizer, torch.float32, tokens=int(cut.kept.max()) + 1)
    keep_tokens(small, cut.kept)
    torch.testing.assert_close(small(new).logits, expected, atol=1e-5, rtol=0)
    tied = small.get_input_embeddings().weight is small.get_output_embeddings().weight
    assert tied == (kind != "qwen3") and small.config.vocab_size == len(cut.kept)
    small.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert again(new).logits.equal(small(new).logits)
    assert getattr(again.get_input_embeddings(), "padding_idx", None) == small.get_input_embeddings().padding_idx


@pytest.mark.parametrize("kept", [(0, 2, 5), (4, 5), (6,), tuple(range(LAYERS))])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_kept_layers_compute_what_they_did_one_after_the_other(folders, kind, kept, tmp_path):
    """The reference goes through the whole model with the other layers skipped, so that each kept one has the mask and
    the positions of its own place."""
    model, tokenizer = opened(folders[kind])
    ids = long_ids(tokenizer)
    hooks = [
        model.model.layers[index].register_forward_hook(lambda module, args, kwargs, output: args[0], with_kwargs=True)
        for index in range(LAYERS)
        if index not in kept
    ]
    expected = model(ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    keep_layers(model, kept)
    torch.testing.assert_close(model(ids, use_cache=False).logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(ids, use_cache=True).logits, expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert again.config.num_hidden_layers == len(kept)
    torch.testing.assert_close(again(ids).logits, expected, atol=1e-5, rtol=0)
    # a step at a time, out of the cache
    answered = again.generate(ids[:, :30], max_new_tokens=3, do_sample=False)
    whole = again.generate(ids[:, :30], max_new_tokens=3, do_sample=False, use_cache=False)
    assert answered.equal(whole)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@torch.no_grad()
def test_greedy_takes_out_what_costs_least_and_leaves_the_model_whole(folders, kind):
    model, tokenizer = opened(folders[kind])
    ids = long_ids(tokenizer)
    before = model(ids).logits
    for layer in (1, 4):  # these pass on what they are given, nearly
        for name, weight in model.model.layers[layer].named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(0)
    reference = model(ids, use_cache=False).logits

    def loss():
        return float((model(ids, use_cache=False).logits - reference).square().mean())

    reports = []
    left, losses = greedy_layers(model, LAYERS - 2, loss, lambda done, total: reports.append((done, total)))
    assert left == [index for index in range(LAYERS) if index not in (1, 4)] and max(losses) < 1e-10
    assert reports[-1] == (2 * LAYERS - 1, 2 * LAYERS - 1)
    assert len(model.model.layers) == model.config.num_hidden_layers == LAYERS
    assert model(ids).logits.shape == before.shape and model(ids, use_cache=False).logits.equal(reference)


@pytest.mark.parametrize(("count", "total"), [(1, 1), (1, 6), (2, 6), (5, 18), (6, 18), (18, 18)])
def test_layers_by_number(count, total):
    for chosen in (even(count, total), ends(count, total)):
        assert chosen == sorted(set(chosen)) and len(chosen) == count and set(chosen) <= set(range(total))
        assert chosen[0] == 0 and (count == 1 or chosen[-1] == total - 1)
    assert (
        even(6, 18) == [0, 3, 7, 10, 14, 17] and ends(6, 18) == [0, 1, 2, 15, 16, 17] and ends(5, 18)[:3] == [0, 1, 2]
    )


def test_layers_that_are_not_there_are_one_line(folders):
    with pytest.raises(UserError, match=r"sizes\.1x: 18 is no layer: it has 18, allowed are 0 to 17"):
        check_layers([0, 18], 18, "sizes.1x")
    with pytest.raises(UserError, match="7 layers cannot be kept of 6: at most 6"):
        check_count(7, 6, "sizes.1x")
    model, _ = opened(folders["llama"])
    model.config.num_kv_shared_layers = 2
    with pytest.raises(UserError, match="its layers share keys and values"):
        keep_layers(model, [0, 1])
