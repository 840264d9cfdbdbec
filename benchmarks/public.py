"""Scoring public benchmarks on their real prompts: ours against stock lm-eval HFLM, same requests and token budget.

    python -m benchmarks --only public --data DIR

DIR holds TASK/LANGUAGE/SPLIT.jsonl (docs/public-tasks.md); the tokenizer is trained on the files of DIR. Timed is
``loglikelihood`` as lm-eval calls it, tokenisation included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.scoring import Score, build, difference
from ecr_bench.config import TokenizerConfig
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.public import find, public_tasks
from ecr_bench.evaluation.run import quiet

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


def measure(name: str, requests: list[Instance], stock: HFLM, ours: EcrLM, options: Options) -> Result:
    def theirs() -> Score:
        return stock.loglikelihood(requests, disable_tqdm=True)

    def mine() -> Score:
        return ours.loglikelihood(requests, disable_tqdm=True)

    worst, greedy = difference(theirs(), mine())
    times = interleaved({"HFLM": theirs, "ours": mine}, options.pick(3, 1), options.device)
    items = len({(request.task_name, request.doc_id) for request in requests})
    return compared(
        f"{name}, 50k vocabulary, fp32: {len(requests) / items:.0f} options",
        "lm-eval HFLM",
        ratios(times, "HFLM", "ours"),
        need=4.0,
        wrong=f"scores differ by {worst:.1e}, {greedy} greedy" if worst > 1e-4 or greedy else "",
        beside={**milliseconds(times, items), "items": items, "max diff": f"{worst:.1e}"},
    )


def run(options: Options) -> Iterator[Result]:
    if options.data is None:
        raise UserError("no test sets: give their folder, --data DIR (docs/public-tasks.md)")
    root, vocabulary = Path(options.data), options.pick(50_000, 400)
    tokenizer = train_tokenizer(texts(root), TokenizerConfig(vocab_size=vocabulary))
    model = build(vocabulary, options.device, torch.float32, WINDOW)
    for name in ("xcopa", "sib200"):
        requests = requests_of(name, root, options.pick(60, 4))
        yield measure(name, requests, *models(model, tokenizer, requests, 8192), options)
