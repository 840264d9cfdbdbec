"""Multiple-choice scoring: ours against stock lm-eval HFLM, same requests and token budget, in one run.

    python -m benchmarks.scoring [--items 24] [--repeats 5] [--threads 1] [--device cpu]

Prints medians of interleaved repeats, the spread of the ratio, and the largest difference in scores.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ecr_bench.evaluation.scorer import Request, loglikelihoods

OPTIONS, CONTEXT, OPTION = 4, (24, 72), (2, 5)
WINDOW = 128
Score = list[tuple[float, bool]]


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


def draw(vocab: int, items: int) -> list[Request]:
    rng = np.random.default_rng(0)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, vocab, rng.integers(low, high + 1)).tolist())

    contexts = [tokens(*CONTEXT) for _ in range(items)]
    return [Request(context, tokens(*OPTION)) for context in contexts for _ in range(OPTIONS)]


def stock(model: PreTrainedModel, batch_tokens: int) -> HFLM:
    """HFLM with as many rows per batch as the token budget allows."""
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    rows = batch_tokens // (CONTEXT[1] + OPTION[1])
    return HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW, batch_size=rows)


def timed(call: Callable[[], Score], device: str) -> tuple[float, Score]:
    start = time.perf_counter()
    result = call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def measure(vocab: int, items: int, repeats: int, batch_tokens: int, device: str) -> list[tuple[str, ...]]:
    """Rows of the table for one vocabulary: fp32 and bf16, each against stock in the same precision."""
    rows: list[tuple[str, ...]] = []
    for dtype in (torch.float32, torch.bfloat16):
        model, requests = build(vocab, device, dtype), draw(vocab, items)
        peer = stock(model, batch_tokens)
        triples = [(("", ""), list(r.context), list(r.continuation)) for r in requests]

        def theirs(peer: HFLM = peer, triples: list = triples) -> Score:
            return peer._loglikelihood_tokens(triples, disable_tqdm=True)

        def ours(model: PreTrainedModel = model, requests: list[Request] = requests) -> Score:
            return loglikelihoods(model, requests, pad_id=0, max_length=WINDOW, batch_tokens=batch_tokens)

        theirs(), ours()  # warm up
        times: list[tuple[float, float]] = []
        for _ in range(repeats):
            (a, expected), (b, found) = timed(theirs, device), timed(ours, device)
            times.append((a, b))
        ratios = sorted(a / b for a, b in times)
        worst = max(abs(x - y) for (x, _), (y, _) in zip(expected, found, strict=True))
        greedy = sum(x != y for (_, x), (_, y) in zip(expected, found, strict=True))
        rows.append(
            (
                f"{vocab:,}",
                str(dtype).removeprefix("torch."),
                f"{statistics.median(a for a, _ in times) / items * 1000:.1f}",
                f"{statistics.median(b for _, b in times) / items * 1000:.1f}",
                f"{statistics.median(ratios):.1f}x",
                f"{ratios[0]:.1f}–{ratios[-1]:.1f}",
                f"{worst:.1e}",
                str(greedy),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--vocab", type=int, nargs="+", default=[16_000, 50_000])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    versions = f"torch {torch.__version__}, {platform.processor() or platform.machine()}, {options.device}"
    table = Table(
        title=f"{OPTIONS} options, contexts {CONTEXT[0]}–{CONTEXT[1]}, {options.threads} thread(s), {versions}"
    )
    for name in ("vocabulary", "dtype", "HFLM ms/item", "ours ms/item", "ratio", "range", "max diff", "greedy differs"):
        table.add_column(name, justify="right")
    for vocab in options.vocab:
        for row in measure(vocab, options.items, options.repeats, options.batch_tokens, options.device):
            table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
