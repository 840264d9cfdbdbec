"""Scoring public benchmarks on their real prompts: ours against stock lm-eval HFLM, same requests and token budget.

    python -m benchmarks --only public --data DIR

DIR holds TASK/LANGUAGE/SPLIT.jsonl (docs/public-tasks.md); the tokenizer is trained on the files of DIR. Timed is
``loglikelihood`` as lm-eval calls it, tokenisation included. What both give is compared with float64, and once more on
options as long as the window, where rounding adds up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.reference import Distance, exact, shortfall
from benchmarks.scoring import Score, build
from ecr_bench.config import TokenizerConfig
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.public import find, public_tasks
from ecr_bench.evaluation.run import quiet

WINDOW = 512
CHECKED = 120
"""Requests whose scores are compared with float64."""


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


def long_options(root: Path, count: int, tokenizer: PreTrainedTokenizerFast) -> list[Instance]:
    """Sentences of SIB-200 after a sentence, of as many tokens as the window holds or fewer, drawn once."""
    rng = random.Random(0)
    sentences = texts(root / "sib200")
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        context, *rest = rng.sample(sentences, min(len(sentences), rng.randint(2, 12)))
        if len(tokenizer(" ".join([context, *rest]))["input_ids"]) <= WINDOW:
            pairs.append((context, " " + " ".join(rest)))
    return [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0, metadata=("long options", number, 1))
        for number, pair in enumerate(pairs)
    ]


def distances(requests: list[Instance], stock: HFLM, ours: EcrLM) -> tuple[Distance, Distance]:
    """How far ours and stock are from float64."""
    reference = exact(ours.model, ours.encode(requests))
    found = ours.loglikelihood(requests, disable_tqdm=True), stock.loglikelihood(requests, disable_tqdm=True)
    return Distance.of(found[0], reference), Distance.of(found[1], reference)


def compare_exactness(requests: list[Instance], stock: HFLM, ours: EcrLM) -> Result:
    mine, theirs = distances(requests, stock, ours)
    longest = max(len(request.continuation) for request in ours.encode(requests))
    return compared(
        f"distance from float64, options of up to {longest} tokens (stock / ours)",
        "lm-eval HFLM",
        [theirs.nats / mine.nats],
        wrong=shortfall(mine, theirs),
        beside={"ours, nats": f"{mine.nats:.1e}", "stock, nats": f"{theirs.nats:.1e}", "options": len(requests)},
    )


def measure(name: str, requests: list[Instance], stock: HFLM, ours: EcrLM, options: Options) -> Result:
    def theirs() -> Score:
        return stock.loglikelihood(requests, disable_tqdm=True)

    def mine() -> Score:
        return ours.loglikelihood(requests, disable_tqdm=True)

    exactly, theirs_exactly = distances(requests[:CHECKED], stock, ours)
    times = interleaved({"HFLM": theirs, "ours": mine}, options.pick(3, 1), options.device)
    items = len({(request.task_name, request.doc_id) for request in requests})
    return compared(
        f"{name}, 50k vocabulary, fp32: {len(requests) / items:.0f} options",
        "lm-eval HFLM",
        ratios(times, "HFLM", "ours"),
        need=4.0,
        wrong=shortfall(exactly, theirs_exactly),
        beside={
            **milliseconds(times, items),
            "items": items,
            "off float64": f"{exactly.nats:.1e}",
            "stock off float64": f"{theirs_exactly.nats:.1e}",
        },
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
    requests = long_options(root, options.pick(60, 4), tokenizer)
    yield compare_exactness(requests, *models(model, tokenizer, requests, 8192))
