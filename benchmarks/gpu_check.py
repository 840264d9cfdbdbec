"""Llama shapes of 1B and 3B from random weights: training steps, scoring, quantisation. Called by gpu_check.sh.

Model FLOPs utilisation counts 6 per parameter and token (2 more for each parameter and token of a distillation
teacher), over the dense bf16 peak of the card; it ignores attention scores, which are small at these lengths.
"""

from __future__ import annotations

import argparse
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.harness import seconds
from benchmarks.scoring import draw, stock, timed
from ecr_bench.config import FinetuneConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import IGNORED, collate
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.fast.scorer import loglikelihoods
from ecr_bench.io import write_json, write_text
from ecr_bench.memory import peak_memory, reset_peak_memory
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.models import count_parameters
from ecr_bench.methods.recipe import Recipe
from ecr_bench.precision import PRECISIONS, describe
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.provenance import environment, gpu

Row = dict[str, Any]
# hidden size, layers, heads, key-value heads, intermediate size, vocabulary: those of Llama 3.2
SHAPES = {
    "1b": (2048, 16, 32, 8, 8192, 128_256),
    "3b": (3072, 28, 24, 8, 8192, 128_256),
    "tiny-1b": (64, 1, 2, 1, 64, 512),
    "tiny-3b": (64, 2, 2, 1, 128, 512),
}
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16 FLOP/s by a part of the card's name (their makers' data sheets)."""
CONTEXT, ANSWER, COUNT, K = 56, 8, 4, 256


def build(name: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    hidden, layers, heads, kv, inner, vocabulary = SHAPES[name]
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, intermediate_size=inner, max_position_embeddings=256, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model: torch.nn.Module = LlamaForCausalLM(config)
    return model.to(dtype)  # type: ignore[return-value]


def batch_of(
    rows: int, vocabulary: int, control: list[int], device: str
) -> tuple[dict[str, torch.Tensor], list[Example]]:
    """Rows of one length with the loss on the last tokens; control tokens in front, as in an ECR row."""
    rng = np.random.default_rng(0)
    text = rng.integers(3, vocabulary, (rows, CONTEXT + ANSWER)).tolist()
    plain = [Example([1, *row], 1 + CONTEXT, len(row)) for row in text]
    seen = [Example([1, *control, *row], 1 + len(control) + CONTEXT, len(row)) for row in text]
    batch = {**collate(seen, 0), "rows": torch.arange(rows)}
    return {name: tensor.to(device) for name, tensor in batch.items()}, plain


def training(name: str, arm: str, larger: str, options: argparse.Namespace) -> Row:
    """Time ``options.steps`` optimiser steps of one arm in bf16 autocast with float32 weights."""
    device = options.device
    _clear(device)
    model = build(name, device, torch.float32).train()
    vocabulary = SHAPES[name][-1]
    tokens = ControlTokens(vocabulary, K)
    control = [tokens.first_id + i for i in range(COUNT)] if arm == "ecr" else []
    if control:
        tokens.add_to(model, 0.02, seed=0)
    batch, plain = batch_of(options.rows, vocabulary, control, device)
    settings = FinetuneConfig(steps=100, learning_rate=1e-5, optimiser="adamw")
    recipe = Recipe.of("finetune", ["distill"]) if arm == "distill" else Recipe.of(arm)
    module = recipe.module(model, settings)
    for part in recipe.modifiers:
        assert isinstance(part, Distill)
        part.vocabulary, part.pad_id, part.rows = vocabulary, 0, plain
        part.teacher = build(larger, device, torch.bfloat16).eval().requires_grad_(False)
        module.teacher = part.teacher
    optimiser = module.configure_optimizers()["optimizer"]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = module.loss(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    step()
    seconds = _clock(step, options.steps, device)
    count = int((batch["input_ids"] != 0).sum())
    answered = int((batch["labels"] != IGNORED).sum())
    flops = 6 * _products(model, count, answered)
    if arm == "distill":
        flops += 2 * _products(module.teacher, count, answered)  # type: ignore[arg-type]
    return {
        "shape": name, "arm": arm, "parameters": count_parameters(model), "tokens_per_step": count,
        "ms_per_step": round(1000 * seconds, 2), "tokens_per_second": round(count / seconds),
        "mfu": (round(flops / seconds / peak, 4) if (peak := peak_flops()) else None), "peak_memory": peak_memory(),
    }  # fmt: skip


def _products(model: LlamaForCausalLM, tokens: int, answered: int) -> int:
    """Parameters times the tokens they are multiplied with: the head's only where an answer is predicted."""
    head, table = model.lm_head.weight, model.model.embed_tokens.weight
    body = count_parameters(model) - head.numel() - (0 if head is table else table.numel())
    return body * tokens + head.numel() * answered


def scoring(name: str, options: argparse.Namespace) -> Row:
    """Our scorer against stock lm-eval on the same bf16 model, requests and token budget."""
    _clear(options.device)
    model = build(name, options.device, torch.bfloat16).eval()
    requests = draw(SHAPES[name][-1], options.rows)
    peer = stock(model, 8192)
    triples = [(("", ""), list(r.context), list(r.continuation)) for r in requests]

    def theirs() -> list[tuple[float, bool]]:
        return peer._loglikelihood_tokens(triples, disable_tqdm=True)

    def ours() -> list[tuple[float, bool]]:
        return loglikelihoods(model, requests, pad_id=0, max_length=128, batch_tokens=8192)

    theirs(), ours()
    pairs = [(timed(theirs, options.device), timed(ours, options.device)) for _ in range(options.repeats)]
    ratios = sorted(a[0] / b[0] for a, b in pairs)
    (_, expected), (_, found) = pairs[0]
    return {
        "shape": name,
        "stock_ms_per_item": round(1000 * pairs[0][0][0] / options.rows, 3),
        "ours_ms_per_item": round(1000 * pairs[0][1][0] / options.rows, 3),
        "ratio": round(ratios[len(ratios) // 2], 2),
        "max_difference": max(abs(x - y) for (x, _), (y, _) in zip(expected, found, strict=True)),
    }


def quantisation(name: str, options: argparse.Namespace) -> list[Row]:
    """Each precision loaded from one folder: bytes, forward time, and logits against fp32."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        build(name, "cpu", torch.float32).save_pretrained(folder)
        ids = batch_of(options.rows, SHAPES[name][-1], [], options.device)[0]["input_ids"]
        reference: torch.Tensor | None = None
        for precision in ("fp32", "bf16", "int8", "nf4"):
            _clear(options.device)
            model = PRECISIONS.get(precision)(Path(folder), options.device)

            @torch.no_grad()
            def forward(model: PreTrainedModel = model) -> torch.Tensor:
                return model(input_ids=ids, logits_to_keep=1).logits.float()

            logits = forward()
            reference = logits if reference is None else reference
            error = float((logits - reference).norm() / reference.norm())
            seconds = _clock(forward, options.steps, options.device)
            row = {"shape": name, "precision": precision, "bytes": describe(model)["bytes"], "logit_error": error}
            rows.append({**row, "ms_per_forward": round(1000 * seconds, 2), "peak_memory": peak_memory()})
            del model, forward
    return rows


def peak_flops() -> float | None:
    return next((value for card, value in PEAK.items() if card in (gpu() or "")), None)


def _clear(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
    reset_peak_memory()


def _clock(call: Callable[[], Any], repeats: int, device: str) -> float:
    """Mean seconds of one call."""
    return seconds(lambda: [call() for _ in range(repeats)], device) / repeats


def read_tests(path: Path) -> Row:
    """Counts of a JUnit file."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    return {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}


def to_markdown(result: Row) -> str:
    machine = result["machine"]
    where = machine["gpu"] or machine["cpu"]
    title = "DRY RUN, its numbers mean nothing" if result["dry_run"] else where
    about = f"{where}; {result['date']}; commit {result['commit']}; {result['settings']}"
    lines = [f"# GPU check: {title}", "", f"{about}; tests marked gpu: {result['tests']}", ""]
    for name in (part for part in ("training", "scoring", "quantisation") if part in result):
        rows = result[name]
        lines += [f"## {name.capitalize()}", "", "| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows] + [""]
    return "\n".join([*lines, "Versions: " + ", ".join(f"{k} {v}" for k, v in result["packages"].items()), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs=2, default=["1b", "3b"], metavar=("SMALL", "LARGE"))
    for name, value in (("steps", 10), ("rows", 32), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tests", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu_check: error: torch finds no GPU here; try --dry-run")
    quiet_libraries()
    small, large = options.shapes
    arms = [(small, "finetune"), (small, "ecr"), (small, "distill"), (large, "finetune")]
    result: Row = {
        "dry_run": options.dry_run,
        **environment(),
        "cuda": torch.version.cuda,
        "settings": {name: getattr(options, name) for name in ("steps", "rows", "repeats")},
        "tests": read_tests(options.tests),
    }
    measured: dict[str, Callable[[], list[Row]]] = {
        "training": lambda: [training(shape, arm, large, options) for shape, arm in arms],
        "scoring": lambda: [scoring(shape, options) for shape in (small, large)],
        "quantisation": lambda: quantisation(small, options),
    }
    for name, rows in measured.items():  # written as it comes: a GPU may be taken away
        result[name] = rows()
        write_json(options.out / "check.json", result)
        write_text(options.out / "check.md", to_markdown(result))
    print(to_markdown(result))


if __name__ == "__main__":
    main()
