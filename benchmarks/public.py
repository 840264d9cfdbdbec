"""Scoring public benchmarks on their real prompts: ours against stock lm-eval HFLM, same requests and token budget.

    python -m benchmarks.public --data-dir DIR [--items 60] [--repeats 3] [--threads 1] [--vocab 50000] [TASK ...]

DIR holds TASK/LANGUAGE/SPLIT.jsonl (docs/public-tasks.md); the tokenizer is trained on the files of DIR. Timed is
``loglikelihood`` as lm-eval calls it, tokenisation included. Prints medians of interleaved repeats, the spread of the
ratio, and the largest difference in scores; ``--repeats 0`` only compares.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.scoring import Score, build, timed
from ecr_bench.config import TokenizerConfig
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.public import find, public_tasks
from ecr_bench.evaluation.run import quiet
from ecr_bench.quiet import quiet_libraries

WINDOW = 512


def texts(root: Path) -> list[str]:
    """All text fields of all files below ``root``."""
    lines = (line for path in sorted(root.rglob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines())
    return [value for line in lines for value in json.loads(line).values() if isinstance(value, str)]


def requests_of(name: str, root: Path, items: int) -> list[Instance]:
    """What lm-eval asks about the first items of each language, ``items`` in all."""
    languages = len(find([name], root))
    tasks, _ = public_tasks([name], root, limit=max(1, round(items / languages)))
    with quiet():
        for task in tasks:
            task.build_all_requests()
    return [instance for task in tasks for instance in task.instances]


def models(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, requests: list[Instance], batch_tokens: int
) -> tuple[HFLM, EcrLM]:
    """Stock, with as many rows per batch as the token budget allows for the longest request, and ours."""
    longest = max(len(ids) for ids in tokenizer(["".join(request.args) for request in requests])["input_ids"])
    stock = HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW, batch_size=max(1, batch_tokens // longest))
    return stock, EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, batch_tokens=batch_tokens)


def measure(
    name: str, requests: list[Instance], stock: HFLM, ours: EcrLM, repeats: int, device: str
) -> tuple[str, ...]:
    """One row of the table."""

    def theirs() -> Score:
        return stock.loglikelihood(requests, disable_tqdm=True)

    def mine() -> Score:
        return ours.loglikelihood(requests, disable_tqdm=True)

    expected, found = theirs(), mine()  # warm up, and compare
    times = [(timed(theirs, device)[0], timed(mine, device)[0]) for _ in range(repeats)]
    items = len({(request.task_name, request.doc_id) for request in requests})
    worst = max(abs(x - y) for (x, _), (y, _) in zip(expected, found, strict=True))
    greedy = sum(x != y for (_, x), (_, y) in zip(expected, found, strict=True))
    speed: tuple[str, ...] = ("–", "–", "–", "–")
    if times:
        ratios = sorted(a / b for a, b in times)
        per_item = [f"{statistics.median(column) / items * 1000:.1f}" for column in zip(*times, strict=True)]
        speed = (*per_item, f"{statistics.median(ratios):.1f}x", f"{ratios[0]:.1f}–{ratios[-1]:.1f}")
    return (name, f"{items:,}", f"{len(requests) / items:.0f}", *speed, f"{worst:.1e}", str(greedy))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["xcopa", "sib200"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocab", type=int, default=50_000)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    quiet_libraries()
    tokenizer = train_tokenizer(texts(options.data_dir), TokenizerConfig(vocab_size=options.vocab))
    model = build(options.vocab, options.device, torch.float32, WINDOW)
    versions = f"torch {torch.__version__}, {platform.processor() or platform.machine()}, {options.device}"
    table = Table(title=f"vocabulary {options.vocab:,}, fp32, {options.threads} thread(s), {versions}")
    columns = (
        "task",
        "items",
        "options",
        "HFLM ms/item",
        "ours ms/item",
        "ratio",
        "range",
        "max diff",
        "greedy differs",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "task" else "right")
    for name in options.tasks:
        requests = requests_of(name, options.data_dir, options.items)
        stock, ours = models(model, tokenizer, requests, options.batch_tokens)
        table.add_row(*measure(name, requests, stock, ours, options.repeats, options.device))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
