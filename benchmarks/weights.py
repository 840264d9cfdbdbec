"""Scoring with real pretrained weights: ours against stock lm-eval HFLM, same requests and token budget.

    python -m benchmarks --only weights --data DIR

DIR as for ``public``. XCOPA and SIB-200 have lm-eval's own prompts; the other three have prompts of the form of a
benchmark that DIR does not hold, made of its sentences: a passage with four lettered answers (Belebele), one sentence
with a phrase exchanged (XWinograd), and all text in the options (XNLI). BLOOM, which cannot be packed, has random
weights: what it shows is time alone. Timed is ``loglikelihood`` as lm-eval calls it, on a model that has been scored
before and on one that has not ("first call": with all that is measured of a model once). Scores are held against
those of stock in float32, the ones in bfloat16 of both sides as well: ours may be no more than twice as far off.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.public import requests_of, texts
from benchmarks.reference import Distance
from benchmarks.scoring import LOGITS, Score, build
from ecr_bench.config import TokenizerConfig
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.methods.packaged import local_source

WINDOW = 1024
FLOOR = 1e-2
"""Nats that float32 may differ by on real weights (``public`` measures against float64)."""
ONCE = ("packed_rows_checked", "measured_after_head")
"""What a model keeps of its first call."""
NEED = {"xcopa": 1.5, "sib200": 1.5, "belebele": 3.0}
"""What a task must reach with pretrained weights."""


def language(root: Path, task: str) -> str:
    """Italian or German where the folder has them, which the tokenizers measured here do not cut into letters."""
    found = sorted(path.name for path in (root / task).iterdir() if path.is_dir())
    return next((name for name in ("it", "de") if name in found), found[0])


def rows(root: Path, task: str) -> list[dict[str, Any]]:
    file = root / task / language(root, task) / "test.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def instances(task: str, items: list[list[tuple[str, str]]]) -> list[Instance]:
    """Each item a list of (context, continuation)."""
    return [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=option, metadata=(task, number, 1))
        for number, pairs in enumerate(items)
        for option, pair in enumerate(pairs)
    ]


def passages(root: Path, items: int) -> list[list[tuple[str, str]]]:
    rng, sentences = random.Random(0), [row["text"] for row in rows(root, "sib200")]
    found = []
    for _ in range(items):
        passage, question, *answers = " ".join(rng.choices(sentences, k=4)), *rng.choices(sentences, k=5)
        lines = [f"P: {passage}", f"Q: {question}", *(f"{a}: {b[:60]}" for a, b in zip("ABCD", answers, strict=True))]
        found.append([("\n".join([*lines, "Answer:"]), f" {letter}") for letter in "ABCD"])
    return found


def exchanged(root: Path, items: int) -> list[list[tuple[str, str]]]:
    return [
        [(f"{row['premise']} {' '.join(row[key].split()[:2])}", f" {row['choice1']}") for key in ("choice1", "choice2")]
        for row in rows(root, "xcopa")[:items]
    ]


def in_options(root: Path, items: int) -> list[list[tuple[str, str]]]:
    return [
        [("", f"{row['premise']}, right? {word}, {row['choice1']}") for word in ("Yes", "Also", "No")]
        for row in rows(root, "xcopa")[:items]
    ]


TEXTS = {"belebele": passages, "xwinograd": exchanged, "xnli": in_options}


def requests(task: str, root: Path, options: Options) -> list[Instance]:
    if task in TEXTS:
        return instances(task, TEXTS[task](root, options.pick(4 if task == "belebele" else 12, 2)))
    return requests_of(f"{task}_{language(root, task)}", root, options.pick(12, 2))


def shortfall(mine: Distance, theirs: Distance) -> str:
    """Why ours does not count; empty where it does."""
    if mine.nats > max(FLOOR, 2 * theirs.nats):
        return f"scores are {mine.nats:.1e} nats off float32, those of the peer {theirs.nats:.1e}"
    if mine.greedy > 2 * theirs.greedy + 1:
        return f"{mine.greedy} greedy flags differ from float32, {theirs.greedy} of the peer"
    return ""


@dataclass(frozen=True)
class Subject:
    """A model that is scored, in one or more types."""

    name: str
    tokenizer: Any
    need: Mapping[str, float] = field(default_factory=dict)
    """Task -> ratio that must be reached in float32; any other must not be slower."""
    exact: dict[str, Score] = field(default_factory=dict)
    """Stock's scores in float32 by task; filled when it is measured in float32."""


def measure(task: str, asked: list[Instance], subject: Subject, model: Any, options: Options) -> Result:
    tokenizer, in_full = subject.tokenizer, model.dtype == torch.float32
    budget = min(8192, LOGITS // (4 * model.config.vocab_size))
    longest = max(len(ids) for ids in tokenizer(["".join(request.args) for request in asked])["input_ids"])
    stock = HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW, batch_size=max(1, budget // longest))
    ours = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, batch_tokens=budget)

    def scored(lm: HFLM) -> Callable[[], Score]:
        return lambda: lm.loglikelihood(asked, disable_tqdm=True)

    def first() -> Score:
        for kept in ONCE:
            vars(model).pop(kept, None)
        return scored(ours)()

    theirs = scored(stock)()
    if in_full:
        subject.exact[task] = theirs
    off = Distance.of(scored(ours)(), subject.exact[task]), Distance.of(theirs, subject.exact[task])
    works = {"HFLM": scored(stock), "ours": scored(ours), "first call": first}
    times = interleaved(works, options.pick(3, 1), options.device)
    again = ratios(times, "HFLM", "ours")
    return compared(
        f"{subject.name}, {'fp32' if in_full else 'bf16'}, {task}: first call",
        "lm-eval HFLM",
        ratios(times, "HFLM", "first call"),
        need=subject.need.get(task, 1.0) if in_full else 1.0,
        wrong=shortfall(*off),
        beside={
            "later calls": f"{sorted(again)[len(again) // 2]:.2f}x",
            **milliseconds(times, len({request.doc_id for request in asked})),
            "off float32": f"{off[0].nats:.1e}",
            "stock off float32": f"{off[1].nats:.1e}",
        },
    )


def models(root: Path, options: Options) -> Iterator[tuple[Subject, Any]]:
    """Subjects with a model of each type; small: a Llama and a BLOOM of a few weights, and nothing is fetched."""
    if options.small:
        tokenizer: Any = train_tokenizer(texts(root), TokenizerConfig(vocab_size=400))
        yield Subject("Llama, random weights", tokenizer), build(len(tokenizer), "cpu", torch.float32, WINDOW)
    for package in () if options.small else ("smollm2-135m", "gemma3-270m"):
        source = local_source(f"package:{package}")
        tokenizer = AutoTokenizer.from_pretrained(source)
        subject = Subject(package, tokenizer, NEED)
        for dtype in (torch.float32, torch.bfloat16):
            yield subject, AutoModelForCausalLM.from_pretrained(source, dtype=dtype).eval()
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=len(tokenizer), hidden_size=options.pick(512, 32), n_layer=options.pick(12, 1), n_head=8
    )
    yield Subject("BLOOM, random weights", tokenizer), BloomForCausalLM(config).eval()


def run(options: Options) -> Iterator[Result]:
    if options.data is None:
        raise UserError("no test sets: give their folder, --data DIR (docs/public-tasks.md)")
    root = Path(options.data)
    for subject, model in models(root, options):
        for task in ("xcopa", "sib200", *TEXTS):
            yield measure(task, requests(task, root, options), subject, model, options)
