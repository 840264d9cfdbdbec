"""Scores against float64: the reference is what the architecture says, and ours are no farther from it than stock's."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.reference import FLOOR, Distance, exact, shortfall
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.fast.packing import Request
from tests.conftest import WORDS
from tests.helpers.outside import DATA
from tests.helpers.public_sets import tiny_model

WINDOW = 768
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return tiny_model(tokenizer, WINDOW)


def llama_by_hand(model: PreTrainedModel, ids: list[int]) -> Array:
    """Log-probabilities (T, V) of a Llama whose heads are all its own, in numpy."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    config: Any = model.config
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def norm(x: Array, name: str) -> Array:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.rms_norm_eps) * weights[name]

    # the model keeps its frequencies in float32
    frequencies = model.model.rotary_emb.inv_freq.double().numpy()  # type: ignore[union-attr, operator]
    angles = np.concatenate([np.outer(np.arange(len(ids)), frequencies)] * 2, 1)

    def rotated(x: Array) -> Array:
        half = size // 2
        turned = np.concatenate([-x[..., half:], x[..., :half]], -1)
        return x * np.cos(angles)[:, None] + turned * np.sin(angles)[:, None]

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}"
        h = norm(x, f"{name}.input_layernorm.weight")
        q, k, v = ((h @ weights[f"{name}.self_attn.{n}_proj.weight"].T).reshape(-1, heads, size) for n in "qkv")
        logits = np.einsum("ihd,jhd->hij", rotated(q), rotated(k)) / np.sqrt(size)
        logits = np.where(np.tri(len(ids), dtype=bool), logits, -np.inf)
        attention = np.exp(logits - logits.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", attention / attention.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        x = x + mixed @ weights[f"{name}.self_attn.o_proj.weight"].T
        h = norm(x, f"{name}.post_attention_layernorm.weight")
        gate, up = (h @ weights[f"{name}.mlp.{n}_proj.weight"].T for n in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{name}.mlp.down_proj.weight"].T
    logits = norm(x, "model.norm.weight") @ weights["lm_head.weight"].T
    top = logits.max(-1, keepdims=True)
    found: Array = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return found


def test_the_reference_is_the_architecture_in_float64(model: PreTrainedModel) -> None:
    rng = random.Random(0)
    context, continuation = ([rng.randrange(3, 300) for _ in range(n)] for n in (40, 200))
    ((value, greedy),) = exact(model, [Request(tuple(context), tuple(continuation))])
    logp = llama_by_hand(model, [*context, *continuation][:-1])[len(context) - 1 :]
    by_hand = float(logp[np.arange(len(continuation)), continuation].sum())
    # float32 is a thousand times farther away
    assert value == pytest.approx(by_hand, abs=1e-9) and abs(value) > 100
    assert greedy == bool((logp.argmax(-1) == continuation).all())


def test_who_is_farther_off_does_not_count() -> None:
    near, far = Distance(2e-4, 0), Distance(3e-4, 0)
    assert not shortfall(near, far) and not shortfall(far, far) and not shortfall(Distance(FLOOR, 0), Distance(0.0, 0))
    assert "3.0e-04 nats off float64" in shortfall(far, near)
    assert "1 greedy flags" in shortfall(Distance(0.0, 1), near)
    assert Distance.of([(1.0, True), (2.0, True)], [(1.5, True), (2.0, False)]) == Distance(0.5, 1)


def sentences() -> list[str]:
    """Real ones where they are, in four scripts."""
    files = [DATA / "sib200" / lang / "test.jsonl" for lang in ("de", "zh", "th", "ar")]
    if not all(file.is_file() for file in files):
        rng = random.Random(0)
        return [" ".join(rng.choices(WORDS, k=20)) for _ in range(300)]
    return [json.loads(line)["text"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("parts", [1, 4])
def test_ours_is_as_near_as_stock_on_options_of_any_length(
    parts: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    rng, drawn = random.Random(parts), sentences()

    def piece(text: str, most: int) -> str:
        """The beginning of a text, of at most ``most`` tokens; scripts differ in how many a character takes."""
        while len(tokenizer(text)["input_ids"]) > most:
            text = text[: len(text) * 9 // 10]
        return text

    pairs = [
        (piece(rng.choice(drawn), 60), " " + piece(" ".join(rng.sample(drawn, parts)), 150 * parts)) for _ in range(16)
    ]
    requests = [
        Instance("loglikelihood", {}, pair, 0, metadata=("long", number, 1)) for number, pair in enumerate(pairs)
    ]
    given: dict[str, Any] = {"pretrained": model, "tokenizer": tokenizer, "max_length": WINDOW, "batch_size": 4}
    ours, stock = EcrLM(**given), HFLM(**given)
    encoded = ours.encode(requests)
    assert all(len(r.context) + len(r.continuation) <= WINDOW for r in encoded)
    reference = exact(model, encoded)
    mine = Distance.of(ours.loglikelihood(requests), reference)
    theirs = Distance.of(stock.loglikelihood(requests), reference)
    assert not shortfall(mine, theirs), (mine, theirs)
    # rounding grows with the sum: relative to it, it does not
    assert mine.nats <= 5e-7 * max(abs(value) for value, _ in reference)
    assert torch.get_default_dtype() == torch.float32
