"""Each precision loads from a saved folder, does the arithmetic it claims, and reports honest sizes."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes
import bitsandbytes.functional
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ecr_bench.errors import UserError
from ecr_bench.fast.scorer import Request, loglikelihoods
from ecr_bench.precision import PRECISIONS, describe

VOCAB, HIDDEN = 200, 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model whose widths are no multiples of 64: bitsandbytes' AVX512 path cannot take them."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=160,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def requests() -> list[Request]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCAB, (6, 14), generator=generator).tolist()
    return [Request(tuple(row[:8]), tuple(row[8 + i : 10 + 2 * i])) for row in ids for i in range(3)]


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_packed_scores_follow_the_model(folder: Path, name: str) -> None:
    model = PRECISIONS.get(name)(folder, "cpu")
    assert not model.training
    found = loglikelihoods(model, requests(), pad_id=0, max_length=64)
    exact = loglikelihoods(PRECISIONS.get("fp32")(folder, "cpu"), requests(), pad_id=0, max_length=64)
    worst = max(abs(a - b) for (a, _), (b, _) in zip(found, exact, strict=True))
    low, high = {"fp32": (0, 0), "bf16": (1e-4, 0.3), "int8": (1e-4, 0.5), "nf4": (1e-2, 3)}[name]
    assert low <= worst <= high


def test_each_precision_is_coarser_than_the_one_before(folder: Path) -> None:
    inputs = torch.randint(0, VOCAB, (8, 16), generator=torch.Generator().manual_seed(1))
    logits = {}
    with torch.no_grad():
        for name in PRECISIONS:
            logits[name] = PRECISIONS.get(name)(folder, "cpu")(inputs).logits.float()
    error = {name: float((value - logits["fp32"]).norm()) for name, value in logits.items()}
    assert 0 == error["fp32"] < error["bf16"] < error["int8"] < error["nf4"]


def test_nf4_is_a_product_with_the_dequantised_weight(folder: Path) -> None:
    model = PRECISIONS.get("nf4")(folder, "cpu")
    layer = model.model.layers[0].mlp.down_proj
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    inputs = torch.randn(5, weight.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        torch.testing.assert_close(layer(inputs), inputs @ weight.T, rtol=2e-2, atol=2e-2)
    # 15 of NF4's 16 levels at most differ per block of 64: the weight really went through 4 bits
    assert len(weight.reshape(-1, 64)[0].unique()) <= 16


def test_quantised_layers_and_dense_head(folder: Path) -> None:
    for name, kind in (("int8", bitsandbytes.nn.Linear8bitLt), ("nf4", bitsandbytes.nn.Linear4bit)):
        model = PRECISIONS.get(name)(folder, "cpu")
        assert sum(isinstance(m, kind) for m in model.modules()) == 2 * 7
        assert type(model.lm_head) is torch.nn.Linear
        assert model.lm_head.weight.dtype == torch.bfloat16


def test_sizes_are_what_is_stored(folder: Path) -> None:
    linear = 2 * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * 160)
    rest = VOCAB * HIDDEN + 5 * HIDDEN
    sizes = {}
    for name in PRECISIONS:
        model = PRECISIONS.get(name)(folder, "cpu")
        before = describe(model)
        loglikelihoods(model, requests(), pad_id=0, max_length=64)
        assert describe(model) == before, "scoring must not change the size"
        sizes[name] = before
    buffers = sizes["fp32"]["bytes"] - 4 * (linear + rest)
    assert 0 <= buffers <= 4 * 64  # rotary frequencies
    assert sizes["bf16"]["bytes"] <= 2 * (linear + rest) + 4 * 64
    assert sizes["int8"]["packed"] == linear
    assert sizes["nf4"]["packed"] == linear // 2
    # one float32 maximum per output row, resp. per block of 64 (plus the 16-value code book)
    assert sizes["int8"]["scales"] == 4 * 2 * (4 * HIDDEN + 2 * 160 + HIDDEN)
    assert 4 * linear // 64 <= sizes["nf4"]["scales"] <= 4 * linear // 64 + 14 * 16 * 4
    assert sizes["nf4"]["bytes"] < sizes["int8"]["bytes"] < sizes["bf16"]["bytes"] < sizes["fp32"]["bytes"]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        PRECISIONS.get("nf4")(tmp_path, "cpu")
    with pytest.raises(UserError, match="unknown precision 'fp16': allowed are bf16, fp32, int8, nf4"):
        PRECISIONS.get("fp16")
