"""Training without padding against training with it: states, losses and every gradient, and who is left padded."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.gemma3 import Gemma3ForCausalLM

from ecr_bench.config import OptimiserConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import IGNORED, collate
from ecr_bench.methods import unpadded
from ecr_bench.methods.base import CausalLMModule, labelled_states
from ecr_bench.methods.models import fit_to_machine
from ecr_bench.methods.unpadded import NAME, Layout, goes_unpadded, kept_states, needed_lengths
from ecr_bench.sizes import Fitting

SETTINGS = OptimiserConfig(steps=1)
V = 50
SHAPE = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "initializer_range": 0.3, "pad_token_id": 0,
}  # fmt: skip
GPT = {"vocab_size": V, "initializer_range": 0.3}


LOCAL = {"gemma3", "mistral"}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


MODELS = {
    "llama": llama,
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, sliding_window=16)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(**GPT, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    ),
}


def batch(lengths: list[int], answer: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        ids = torch.randint(1, V, (length,), generator=draw).tolist()
        rows.append(Example(ids, 1 if answer is None else length - answer, length))
    return collate(rows, 0)


def padded(model: PreTrainedModel) -> PreTrainedModel:
    model.unpadded_reach = 0
    return model


def goes(model: PreTrainedModel) -> bool:
    return model.unpadded_reach > 0 and model.config._attn_implementation == NAME


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Longest row of each unpadded pass."""
    found: list[int] = []
    real = unpadded._unpadded
    monkeypatch.setattr(unpadded, "_unpadded", lambda m, i, n, *o: found.append(int(n.max())) or real(m, i, n, *o))
    return found


def losses(make, given, fitting: Fitting | None = None) -> list[tuple[PreTrainedModel, torch.Tensor]]:
    """The same model with and without padding, with gradients."""
    found = []
    for prepare in (lambda model: model, padded):
        torch.manual_seed(1)
        model = prepare(make()).train()
        if fitting:
            fit_to_machine(model, fitting)
        total = CausalLMModule(model, SETTINGS).loss(given)
        total.backward()
        found.append((model, total))
    return found


def compare(found) -> None:
    (ours, ours_loss), (theirs, theirs_loss) = found
    assert ours_loss.item() == pytest.approx(theirs_loss.item(), rel=1e-5)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("answer", [None, 2])
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_padded_rows(name, answer, passes):
    lengths = [9, 3, 12, 3, 7] if name in LOCAL else [9, 60, 12, 3, 90]
    found = losses(MODELS[name], batch(lengths, answer))
    assert goes(found[0][0]) and passes == [max(lengths) - 1] * 4  # three to try, one that counts
    compare(found)


@pytest.mark.parametrize(
    "fitting", [Fitting(accumulate=3), Fitting(checkpointing=True), Fitting(accumulate=2, checkpointing=True)]
)
def test_with_less_memory(fitting):
    given = batch([9, 3, 12, 3, 7])
    found = losses(llama, given, fitting)
    assert goes(found[0][0])
    compare(found)
    compare([found[0], losses(llama, given)[1]])


@pytest.mark.parametrize("lengths", [[8, 8, 9, 12], [8, 8, 8, 8, 8, 9]])
def test_parts_of_rows_of_one_length(lengths, passes):
    """Computed again for the gradients after another part has settled whether the model goes unpadded."""
    found = losses(llama, batch(lengths), Fitting(accumulate=3))
    assert len(passes) == 3 + 2 * 3
    compare(found)


def test_padding_and_what_lies_behind_the_last_label_are_not_computed():
    model, given = llama().train(), batch([9, 3, 12])
    given["labels"][2, 5:] = IGNORED
    assert needed_lengths(given["labels"]).tolist() == [8, 2, 5]
    seen: list[tuple[int, ...]] = []
    labelled_states(model, given)  # tries the two ways
    model.model.layers[0].mlp.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    labelled_states(model, given)
    assert seen == [(1, 15, 32)]


def test_a_row_without_labels_and_a_batch_without_any():
    given = batch([9, 3, 12])
    given["labels"][1] = IGNORED
    compare(losses(llama, given))
    given["labels"][:] = IGNORED
    states, labels = labelled_states(llama(), given)
    assert states.shape == (0, 32) and labels.shape == (0,)


def test_layout():
    layout = Layout.of(torch.tensor([2, 1, 3]))
    assert layout.positions.tolist() == [0, 1, 0, 0, 1, 2]
    assert layout.inverse.tolist() == [0, 1, 3, 6, 7, 8]
    assert layout.empty.tolist() == [False, False, True, False, True, True, False, False, False]
    assert layout.index[~layout.empty].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("first", [9, 30])
@pytest.mark.parametrize("name", sorted(LOCAL))
def test_rows_longer_than_a_sliding_window_are_padded(name, first, passes):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    labelled_states(model, batch([first, 5]))
    assert model.unpadded_reach == 16 and (len(passes) == 4) == (first == 9)
    ids, lengths = torch.randint(1, V, (2, 40)), torch.tensor([40, 9])
    assert not goes_unpadded(model, ids, lengths) and goes_unpadded(model, ids, torch.tensor([16, 9]))
    expected = model.model(input_ids=ids[:1], use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(kept_states(model, ids, lengths, False)[:40], expected, rtol=1e-4, atol=1e-5)


def test_the_model_works_as_before_afterwards():
    """Padding on the left with a mask, and generation: attention without a layout is sdpa's."""
    torch.manual_seed(0)
    model = llama().eval()
    ids = torch.randint(1, V, (2, 8))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        return logits, model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)

    before = both()
    labelled_states(model, batch([4, 7]))
    assert goes(model)
    for one, other in zip(before, both(), strict=True):
        torch.testing.assert_close(one, other)


def refused(model: PreTrainedModel, caplog, why: str) -> None:
    attention = model.config._attn_implementation
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            labelled_states(model, batch([9, 3]))
    assert model.unpadded_reach == 0 and model.config._attn_implementation == attention
    (message,) = [record.getMessage() for record in caplog.records if record.name == unpadded.__name__]
    assert message.startswith(f"{type(model).__name__} is trained on padded rows: ") and why in message


def test_attention_of_its_own_is_left_padded(caplog):
    layers = {"attention_types": [[["global", "local"], 1]], "window_size": 4, "num_layers": 2}
    model = GPTNeoForCausalLM(GPTNeoConfig(**GPT, hidden_size=32, num_heads=4, **layers)).eval()
    refused(model, caplog, "its attention is eager")


@pytest.mark.parametrize("alibi", [True, False])
def test_a_model_that_takes_no_other_attention_is_left_padded(alibi, caplog):
    config = FalconConfig(**GPT, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, alibi=alibi)
    refused(FalconForCausalLM(config).eval(), caplog, "an attention of its own")


def test_eager_attention_is_left_padded(caplog):
    model = llama().eval()
    model.set_attn_implementation("eager")
    refused(model, caplog, "its attention is eager")


def test_a_model_that_mixes_positions_is_left_padded(caplog):
    """As a state-space or convolution layer does: without padding it would see the row before."""
    model = llama().eval()
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, output: output + output.roll(1, dims=1))
    refused(model, caplog, "does not give the same")


def test_a_small_leak_is_seen(caplog):
    """Too small to show beside rounding; seen because the other row is exchanged."""
    model = llama().eval()
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, output: output + 1e-4 * output.roll(1, dims=1))
    refused(model, caplog, "a row sees the one before it")


def test_a_mask_of_its_own_is_left_padded(caplog):
    def masked(_, named: dict) -> None:
        if "layout" in named:
            named["position_bias"] = torch.zeros(1)

    model = llama().eval()
    layer = model.model.layers[0].self_attn
    layer.register_forward_pre_hook(lambda m, args, named: masked(m, named) or (args, named), with_kwargs=True)
    refused(model, caplog, "wants more than causality: position_bias")


def test_a_model_that_fails_is_left_padded(caplog):
    def fail(*_) -> None:
        raise KeyError("layout")

    model = llama().eval()
    model.model.register_forward_pre_hook(lambda _, __, named: fail() if "layout" in named else None, with_kwargs=True)
    refused(model, caplog, "KeyError: 'layout'")


def test_dropout_is_left_padded_and_draws_as_before(caplog):
    found = []
    for prepare in (lambda model: model, padded):
        torch.manual_seed(3)
        model = prepare(GPT2LMHeadModel(GPT2Config(**GPT, n_embd=32, n_layer=1, n_head=4)).train())
        found.append(CausalLMModule(model, SETTINGS).loss(batch([9, 3])).item())
        assert model.unpadded_reach == 0
    assert found[0] == found[1]


def test_rows_of_one_length_decide_nothing():
    model = llama()
    labelled_states(model, batch([6, 6]))
    assert not hasattr(model, "unpadded_reach")
    labelled_states(model, batch([6, 4]))
    assert goes(model)


def test_a_second_model_of_the_same_configuration():
    model = llama()
    labelled_states(model, batch([6, 4]))
    other = LlamaForCausalLM(model.config)
    labelled_states(other, batch([6, 4]))
    assert goes(other)


def test_bf16():
    given = batch([9, 3, 12])
    found = losses(lambda: llama().bfloat16(), given)
    assert goes(found[0][0]) and found[0][1].item() == pytest.approx(found[1][1].item(), rel=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(llama, given)
    assert goes(found[0][0]) and found[0][1].item() == pytest.approx(found[1][1].item(), rel=0.02)
