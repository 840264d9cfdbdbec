"""The fast scorer equals the plain one and stock lm-eval, whatever the batch, model or request."""

from __future__ import annotations

import random
from functools import wraps
from typing import Any

import numpy as np
import peft
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ecr_bench.errors import UserError
from ecr_bench.fast import head, scorer
from ecr_bench.fast.packing import Request, ancestors, collate, pack, window
from ecr_bench.fast.scorer import full_sequences, loglikelihoods

VOCAB, WINDOW = 97, 48
LLAMA_LIKE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": WINDOW,
    # far larger than usual, so that a wrong mask or position moves the scores by whole nats
    "initializer_range": 0.6,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": WINDOW, "initializer_range": 0.6}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": LLAMA_LIKE,
    "gpt2": GPT2,
    "qwen2": LLAMA_LIKE,
    "mistral": LLAMA_LIKE | {"sliding_window": 7},
    "gemma2": LLAMA_LIKE | {"head_dim": 8, "sliding_window": 7, "final_logit_softcapping": 3.0},
    "gemma3_text": LLAMA_LIKE
    | {"head_dim": 8, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
    "mixtral": LLAMA_LIKE | {"num_local_experts": 2},
    # frequencies of another kind for rows of more than 20 tokens, and for all that share a batch with one
    "phi3": LLAMA_LIKE
    | {
        "original_max_position_embeddings": 20,
        "sliding_window": None,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 20,
            "short_factor": [1.0] * 4,
            "long_factor": [8.0] * 4,
        },
    },
    "cohere": LLAMA_LIKE | {"logit_scale": 0.3},
    "granite": LLAMA_LIKE | {"logits_scaling": 4.0},
    # a mask of its own, by place in the row: packing would be wrong on rows longer than the window, and only there
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "window_size": 12,
        "initializer_range": 0.6,
        "attention_types": [[["global", "local"], 1]],
    },
    # positions come from the 2-D mask (ALiBi) or from a recurrence: no packing, hence the fallback
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.6},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": WINDOW, "initializer_range": 0.6},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.6},
}
UNPACKABLE = {"gpt_neo", "bloom", "mpt", "mamba"}


def build(kind: str, **extra: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    ids = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, **{**ids, **ARCHITECTURES[kind], **extra})
    return AutoModelForCausalLM.from_config(config).eval()


def word_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, VOCAB))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def draw(seed: int, contexts: int = 12) -> list[Request]:
    """Shuffled requests: shared prefixes, duplicates, one-token sides, overlong ones, single-use contexts."""
    rng = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCAB) for _ in range(rng.randint(low, high)))

    requests = []
    for _ in range(contexts):
        context, stem = tokens(1, 25), tokens(0, 2)
        requests += [Request(context, stem + tokens(1, 5)) for _ in range(rng.randint(1, 4))]
    requests += [requests[0], requests[3], Request((5,), (6,)), Request((5,), (6, 7)), Request((5,), (6, 8))]
    requests += [Request(tokens(60, 60), tokens(1, 6)) for _ in range(2)]
    shared = tokens(WINDOW - 2, WINDOW - 2)
    requests += [Request(shared, tokens(1, 1)), Request(shared, tokens(9, 9)), Request((4,), tokens(WINDOW, WINDOW))]
    stem = tokens(12, 12)  # contexts that differ behind what they share, as where one word of a sentence is exchanged
    requests += [Request(stem + tokens(1, 5), tokens(1, 4)) for _ in range(4)] + [Request(stem[:9], stem[9:])]
    rng.shuffle(requests)
    return requests


def close(found: list[tuple[float, bool]], expected: list[tuple[float, bool]], tolerance: float = 1e-4) -> None:
    assert np.abs(np.array([v for v, _ in found]) - np.array([v for v, _ in expected])).max() <= tolerance
    assert [g for _, g in found] == [g for _, g in expected]


def one_by_one(model: PreTrainedModel, requests: list[Request]) -> list[tuple[float, bool]]:
    with torch.no_grad():
        parts = [full_sequences(model, [window(request, WINDOW)], 0, 1) for request in requests]
    return [(float(value[0]), bool(greedy[0])) for value, greedy in parts]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_equals_scoring_one_request_at_a_time(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    model, requests = build(kind), draw(1)
    # attach greedy continuations, so that is_greedy is true for some
    with torch.no_grad():
        context = requests[0].context
        best = int(model(torch.tensor([context])).logits[0, -1].argmax())
    requests.append(Request(context, (best,)))
    scorer._warned.clear()
    expected = one_by_one(model, requests)
    assert any(g for _, g in expected)
    for batch_tokens in (1, 200, 8192):
        close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW, batch_tokens=batch_tokens), expected)
    assert len([r for r in caplog.records if r.name == scorer.__name__]) == (kind in UNPACKABLE)


def shapes(model: PreTrainedModel, requests: list[Request]) -> list[tuple[int, int]]:
    """Rows and length of the forward passes that scoring takes, of the body."""
    seen: list[tuple[int, int]] = []
    forward = type(model.base_model).forward

    @wraps(forward)  # the scorer reads which arguments a body takes
    def counted(self: Any, input_ids: torch.Tensor, *args: Any, **named: Any) -> Any:
        seen.append((len(input_ids), input_ids.shape[1]))
        return forward(self, input_ids, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.base_model), "forward", counted)
        loglikelihoods(model, requests, pad_id=0, max_length=WINDOW)
    return seen


def passes(model: PreTrainedModel, requests: list[Request]) -> int:
    return len(shapes(model, requests))


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_what_was_found_of_a_model_is_not_asked_again(kind: str) -> None:
    model, requests = build(kind), draw(6)
    first, again = passes(model, requests), passes(model, requests)
    assert first > again == 1
    model.base_model.layers[0].register_forward_hook(lambda layer, given, output: output)
    assert passes(model, requests) > 1  # it is another model now
    assert passes(build(kind), requests) == first


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("llama", {}), ("gpt2", {}), ("bloom", {}), ("gemma3_text", {"sliding_window": 64}), ("mixtral", {})],
)
def test_looking_whether_packed_rows_hold_takes_a_few_tokens(kind: str, extra: dict[str, Any]) -> None:
    model, context = build(kind, **extra), tuple(range(3, 44))
    requests = [Request(context[i:], option) for i in range(4) for option in ((6 + i, 7, 8, 9), (40, 41, 42))]
    first, again = ([rows * length for rows, length in shapes(model, requests)] for _ in range(2))
    assert 0 < sum(first) - sum(again) < 100
    assert sum(again) > 300 or kind != "bloom"


def test_frequencies_that_depend_on_what_was_scored_before_are_refused_beyond_their_length() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    model = build("llama", max_position_embeddings=20, rope_parameters=rope)
    short, long = Request(tuple(range(3, 20)), (4, 5)), Request(tuple(range(3, 30)), (4, 5))
    with pytest.raises(UserError, match=r"rope_type 'dynamic': .*allowed are windows of up to 20 \(max_length\)"):
        loglikelihoods(model, [short, long], pad_id=0, max_length=WINDOW)
    close(loglikelihoods(model, [short], pad_id=0, max_length=WINDOW), one_by_one(model, [short]))
    assert len(loglikelihoods(model, [short, long], pad_id=0, max_length=20)) == 2


def test_a_context_may_have_ids_beyond_the_vocabulary_and_options_the_same_tokens() -> None:
    """Soft tokens have such ids; and a row may branch in its contexts alone."""
    model = build("llama")
    table = torch.nn.Embedding.from_pretrained(torch.randn(VOCAB + 5, LLAMA_LIKE["hidden_size"]))
    model.set_input_embeddings(table)
    context = (1, VOCAB, VOCAB + 1, VOCAB + 2, 7, 8, 9)
    requests = [Request((*context, last), (5,)) for last in (10, 11)] + [Request(context, (5, 5))]
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), one_by_one(model, requests))
    bloom = build("bloom")  # cannot be packed, which the only token that is predicted must show
    same = [Request((3, 4, 5, 6, last), (5,)) for last in (10, 11)]
    close(loglikelihoods(bloom, same, pad_id=0, max_length=WINDOW), one_by_one(bloom, same))


def test_options_of_one_token_are_read_off_one_sequence_where_rows_cannot_be_packed() -> None:
    model, context = build("bloom"), tuple(range(3, 33))
    requests = [Request(context, (token,)) for token in range(40, 44)]
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), one_by_one(model, requests))
    assert shapes(model, requests) == [(1, len(context))]


@pytest.mark.parametrize(("kind", "width"), [("llama", 48), ("gpt2", 4 * 32)])
def test_a_batch_is_no_larger_than_the_cache_of_the_cpu(kind: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = build(kind), random.Random(0)
    requests = [Request(tuple(rng.randrange(3, VOCAB) for _ in range(20)), (5,)) for _ in range(12)]
    whole = loglikelihoods(model, requests, pad_id=0, max_length=WINDOW)
    monkeypatch.setattr(scorer, "ELEMENTS", 80 * width)
    assert shapes(model, requests) == [(4, 20)] * 3
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), whole)


def test_what_held_for_short_rows_is_asked_again_for_longer_ones_where_attention_may_be_local() -> None:
    model = build("gpt_neo")
    short = [Request((3, 4, 5), (6,)), Request((3, 4, 5), (7,))]
    close(loglikelihoods(model, short, pad_id=0, max_length=WINDOW), one_by_one(model, short))
    context = tuple(range(3, 33))
    longer = [Request(context, (6, 7, 8, 9)), Request(context, (9, 8, 7))]
    close(loglikelihoods(model, longer, pad_id=0, max_length=WINDOW), one_by_one(model, longer))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text", "qwen2"])
def test_equals_stock_lm_eval(kind: str) -> None:
    model = build(kind)
    requests = [r for r in draw(2) if len(r.continuation) <= WINDOW]
    stock = HFLM(pretrained=model, tokenizer=word_tokenizer(), max_length=WINDOW, batch_size=8)
    triples = [(("", ""), list(r.context), list(r.continuation)) for r in requests]
    expected = stock._loglikelihood_tokens(triples, disable_tqdm=True)
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), expected)


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_peft_models(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Adapters in the layers are packed; virtual tokens before a prompt are seen by the wrapper alone."""
    lora = peft.LoraConfig(init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
    virtual = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    bare, requests = build("llama"), draw(4)
    without = one_by_one(bare, requests)
    model = peft.get_peft_model(bare, lora if kind == "lora" else virtual).eval()
    scorer._warned.clear()
    expected = []
    for context, continuation in (window(request, WINDOW) for request in requests):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context + continuation])).logits[0, -len(continuation) - 1 : -1]
        target = torch.tensor(continuation)
        value = logits.log_softmax(-1)[torch.arange(len(target)), target].sum().item()
        expected.append((value, bool((logits.argmax(-1) == target).all())))
    assert max(abs(a - b) for (a, _), (b, _) in zip(expected, without, strict=True)) > 0.1
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), expected)
    assert bool(caplog.records) == (kind == "prompt")


@pytest.mark.parametrize("kind", ["llama", "mpt"])
def test_rounding_of_bf16_hides_no_model_that_counts_places(kind: str) -> None:
    rng = random.Random(0)
    model, context = build(kind).to(torch.bfloat16), tuple(rng.randrange(3, VOCAB) for _ in range(20))
    requests = [Request(context, tuple(rng.randrange(3, VOCAB) for _ in range(20))) for _ in range(4)]
    found, expected = loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), one_by_one(model, requests)
    assert max(abs(a - b) / (10 + abs(b)) for (a, _), (b, _) in zip(found, expected, strict=True)) < 0.02


def test_eager_attention_and_bf16() -> None:
    requests = draw(3)
    eager = build("llama", attn_implementation="eager")
    close(loglikelihoods(eager, requests, pad_id=0, max_length=WINDOW), one_by_one(eager, requests))
    half = build("llama").to(torch.bfloat16)
    found = loglikelihoods(half, requests, pad_id=0, max_length=WINDOW)
    expected = one_by_one(half, requests)
    for (a, _), (b, _) in zip(found, expected, strict=True):
        assert abs(a - b) <= 0.02 * (10 + abs(b))


@pytest.mark.parametrize("kind", ["llama", "gemma2", "cohere", "granite"])
@pytest.mark.parametrize("elements", [1, 20 * VOCAB, 1000 * VOCAB])
def test_large_vocabulary_is_cut_into_pieces(kind: str, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, requests = build(kind), draw(4)
    best = int(model(torch.tensor([requests[0].context])).logits[0, -1].argmax())
    requests.append(Request(requests[0].context, (best,)))
    expected = one_by_one(model, requests)
    monkeypatch.setattr(head, "ELEMENTS", elements)
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), expected)
    monkeypatch.setattr(head, "POSITIONS", 3)
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), expected)


def test_a_head_that_is_more_than_a_product_runs_whole() -> None:
    model, requests = build("llama"), draw(5)
    plain_scores = one_by_one(model, requests)
    model.get_output_embeddings().register_forward_hook(lambda layer, given, logits: 0.5 * logits)
    hooked = one_by_one(model, requests)
    assert abs(hooked[0][0] - plain_scores[0][0]) > 0.1
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), hooked)


@pytest.mark.parametrize("elements", [1, 40, 1 << 22])
def test_greedy_breaks_ties_like_argmax(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "ELEMENTS", elements)
    model = build("llama")
    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        weight.zero_()
    requests = [Request((5,), (token,)) for token in (0, 1, 50)]
    found = loglikelihoods(model, requests, pad_id=0, max_length=WINDOW)
    assert [greedy for _, greedy in found] == [True, False, False]
    assert found[0][0] == pytest.approx(-np.log(VOCAB))
    with torch.no_grad():  # the same winner in three places, with a better one or none behind it
        states = model.model(torch.tensor([[5]]))[0][0, 0]
        weight[[7, 30, 60]] = states
    found = loglikelihoods(model, [Request((5,), (t,)) for t in (7, 30, 60)], pad_id=0, max_length=WINDOW)
    assert [greedy for _, greedy in found] == [True, False, False]
    with torch.no_grad():
        weight[90] = 2 * states
    found = loglikelihoods(model, [Request((5,), (t,)) for t in (7, 30, 90)], pad_id=0, max_length=WINDOW)
    assert [greedy for _, greedy in found] == [False, False, True]


def test_contexts_are_computed_once_and_prefixes_shared() -> None:
    requests = [Request((3, 4, 5), (6, 7, 8)), Request((3, 4, 5), (6, 7, 9)), Request((3, 4, 5), (10,))]
    (row,) = pack([*requests, requests[0]])
    assert row.tokens == [3, 4, 5, 6, 7]
    assert row.depths == [0, 1, 2, 3, 4]
    assert len(row.edge_tokens) == 5  # 6, 7, 8, 9, 10


def test_contexts_that_begin_alike_share_a_row() -> None:
    stem = tuple(range(10, 22))
    alike = [Request((*stem, 3), (5, 6)), Request((*stem, 4), (5, 6)), Request(stem, (3,))]
    other = Request((10, 11, 50, 51, 52, 53), (5, 6))  # too little in common: every token would attend over both
    rows = pack([*alike, other])
    assert sorted(sorted(row.requests) for row in rows) == [[0, 1, 2], [3]]
    assert sorted(len(row.tokens) for row in rows) == [7, len(stem) + 4]


def test_a_token_attends_to_its_ancestors_only() -> None:
    rows = pack([Request((3, 4), (5, 6, 7)), Request((3, 4), (8, 9))])
    allowed = ancestors(collate(rows, 0))[0]
    # tokens of the row: 3 4 | 5 6 | 8
    assert allowed.astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_many_continuations_of_one_short_context_split_into_rows() -> None:
    rng = random.Random(0)
    requests = [Request((1,), tuple(rng.randrange(3, VOCAB) for _ in range(30))) for _ in range(40)]
    rows = pack(requests)
    assert len(rows) >= 8
    assert max(len(row.tokens) for row in rows) <= 160
    model = build("gpt2")
    close(loglikelihoods(model, requests, pad_id=0, max_length=WINDOW), one_by_one(model, requests))


def test_empty_sides_and_progress() -> None:
    model, done = build("llama"), []
    loglikelihoods(model, [Request((3,), (4,))], pad_id=0, max_length=WINDOW, on_progress=done.append)
    assert sum(done) == 1
    with pytest.raises(ValueError, match="request 1 has an empty continuation"):
        loglikelihoods(model, [Request((3,), (4,)), Request((3,), ())], pad_id=0, max_length=WINDOW)
    with pytest.raises(ValueError, match="request 1 has an empty context"):
        loglikelihoods(model, [Request((3,), (4,)), Request((), (4,))], pad_id=0, max_length=WINDOW)
    assert loglikelihoods(model, [], pad_id=0, max_length=WINDOW) == []
