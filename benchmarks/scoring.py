"""Multiple-choice log-likelihoods: ours against stock lm-eval HFLM, same requests and token budget.

The model is a Llama with random weights; four options share each context, as in most benchmarks of this kind. Stock
gets as many rows per batch as the token budget allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, now, ratios
from benchmarks.reference import Distance, exact, shortfall
from ecr_bench.fast.scorer import Request, loglikelihoods

OPTIONS, CONTEXT, OPTION = 4, (24, 72), (2, 5)
WINDOW = 128
Score = list[tuple[float, bool]]
LOGITS = 1 << 31
"""Stock's largest logits tensor in bytes (float32): the token budget of large vocabularies, for both."""


def build(vocab: int, device: str, dtype: torch.dtype, window: int = WINDOW) -> PreTrainedModel:
    """A Llama with a body of 4.7M parameters, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=688,
        max_position_embeddings=window,
        tie_word_embeddings=True,
    )
    model: torch.nn.Module = LlamaForCausalLM(config)
    return cast(PreTrainedModel, model.to(device, dtype).eval())


def draw(vocab: int, items: int, options: int = OPTIONS) -> list[Request]:
    rng = np.random.default_rng(0)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, vocab, rng.integers(low, high + 1)).tolist())

    contexts = [tokens(*CONTEXT) for _ in range(items)]
    return [Request(context, tokens(*OPTION)) for context in contexts for _ in range(options)]


def stock(model: PreTrainedModel, batch_tokens: int) -> HFLM:
    """HFLM with as many rows per batch as the token budget allows."""
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    rows = batch_tokens // (CONTEXT[1] + OPTION[1])
    return HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW, batch_size=rows)


def timed(call: Callable[[], Score], device: str) -> tuple[float, Score]:
    start = now(device)
    result = call()
    return now(device) - start, result


def measure(vocab: int, dtype: torch.dtype, need: float | None, options: Options) -> Result:
    items, device = options.pick(24 if vocab < 100_000 else 8, 4), options.device
    budget = min(8192, LOGITS // (4 * vocab))
    model, requests = build(vocab, device, dtype), draw(vocab, items)
    peer = stock(model, budget)
    triples = [(("", ""), list(r.context), list(r.continuation)) for r in requests]

    def theirs() -> Score:
        return peer._loglikelihood_tokens(triples, disable_tqdm=True)

    def ours() -> Score:
        return loglikelihoods(model, requests, pad_id=0, max_length=WINDOW, batch_tokens=budget)

    single = dtype == torch.float32
    reference = exact(model, requests) if single else theirs()
    mine, peers = Distance.of(ours(), reference), Distance.of(theirs(), reference)
    times = interleaved({"HFLM": theirs, "ours": ours}, options.pick(5 if vocab < 100_000 else 3, 1), device)
    off = {"off float64": f"{mine.nats:.1e}", "stock off float64": f"{peers.nats:.1e}"}
    name = "fp32" if single else "bf16"
    return compared(
        f"{OPTIONS}-option scoring, {vocab // 1000}k vocabulary, {name}",
        f"lm-eval HFLM, {name}",
        ratios(times, "HFLM", "ours"),
        need=need,
        wrong=shortfall(mine, peers) if single else "",
        beside={**milliseconds(times, items), **(off if single else {"max diff": f"{mine.nats:.1e}"})},
    )


def run(options: Options) -> Iterator[Result]:
    sizes = {1000: None} if options.small else {16_000: 3.0, 50_000: 6.0, 262_000: 8.0}
    for vocab, need in sizes.items():
        for dtype in (torch.float32, torch.bfloat16):
            yield measure(vocab, dtype, need if dtype == torch.float32 else None, options)
