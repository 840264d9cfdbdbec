"""What the conditioner costs inside scoring: ECR's prompts against plain ones, same model, tasks and text.

Two ratios. *Its own work* (cue, projection, codes, placement): the plain side gets as many tokens, four copies of a
special token at the front, so that both score sequences of the same lengths. *All of it*: against plain prompts as
they are; that is the price of the extra positions as well, about (T + m) / T, and is given beside without a limit.
Timed is ``loglikelihood`` as lm-eval calls it, tokenisation included; four options of one to three words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from lm_eval.api.instance import Instance
from transformers import PreTrainedTokenizerFast

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.scoring import build
from ecr_bench.config import AnchorsConfig, ProjectionConfig, TokenizerConfig
from ecr_bench.data.tokenizer import EOS, train_tokenizer
from ecr_bench.ecr.anchors import Anchors, fit_anchors
from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.projection import Projection, fit_projection
from ecr_bench.evaluation.lm import EcrLM

COUNT, DIMENSIONS, WORDS = 4, 512, 3000


def sentences(count: int) -> list[str]:
    """Sentences of 10 to 40 made-up words, frequent ones first, as in text (Zipf)."""
    rng = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(WORDS)]
    weights = [1 / (rank + 1) for rank in range(WORDS)]
    return [" ".join(rng.choices(words, weights, k=rng.randint(10, 40))) for _ in range(count)]


def instances(texts: list[str], answers: list[str], prefix: str = "") -> list[Instance]:
    """What lm-eval asks: four options after each prompt; ``ecr_`` tasks may look at ``text``."""
    rng = random.Random(1)
    found = []
    for index, text in enumerate(texts):
        doc = {"text": text, "lang": "en"}
        for option in range(4):
            pair = (f"{prefix}{text}\nQuestion: which of these is meant?\nAnswer:", f" {rng.choice(answers)}")
            found.append(Instance("loglikelihood", doc, pair, option, metadata=("ecr_bench_speed", index, 1)))
    return found


def fitted_on_noise(
    texts: list[str], vocabulary: int, config: AnchorsConfig, rank: int
) -> tuple[PreTrainedTokenizerFast, Anchors, Projection]:
    """Tokenizer of ``texts``, anchors of as many random vectors, and a token table that projects onto these."""
    tokenizer, langs = train_tokenizer(texts, TokenizerConfig(vocab_size=vocabulary)), ["en"] * len(texts)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(len(texts), DIMENSIONS, generator=generator), dim=1)
    anchors = fit_anchors(vectors, langs, config, 1, "noise")
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    table = ProjectionConfig(kind="token-table", options={"rank": rank})
    return tokenizer, anchors, fit_projection(table, ids, anchors.centre(vectors, langs), len(tokenizer), None, 0)


def run(options: Options) -> Iterator[Result]:
    items, vocabulary = options.pick(64, 8), options.pick(16_000, 400)
    texts = sentences(options.pick(3000, 200))
    config = AnchorsConfig(k=options.pick(256, 16))
    tokenizer, anchors, projection = fitted_on_noise(texts, vocabulary, config, options.pick(64, 8))
    tokens = ControlTokens(len(tokenizer), config.k)
    source = ProjectionCodes(tokenizer, projection, anchors, COUNT)
    conditioner = Conditioner(tokenizer, source, tokens, COUNT)
    model = build(tokens.first_id + tokens.size, options.device, torch.float32, 256)
    plain = EcrLM(model, tokenizer=tokenizer, max_length=256)
    ecr = EcrLM(model, tokenizer=tokenizer, max_length=256, conditioner=conditioner)
    answers = sentences(40)
    answers = [" ".join(answer.split()[:3]) for answer in answers]
    asked = {
        "ecr": (ecr, instances(texts[:items], answers)),
        "same length": (plain, instances(texts[:items], answers, EOS * COUNT)),
        "plain": (plain, instances(texts[:items], answers)),
    }
    lengths = [len(r.context) for r in ecr._conditioned(asked["ecr"][1])]
    padded = [len(r.context) for r in plain._encode_pairs([i.args for i in asked["same length"][1]])]
    times = interleaved(
        {
            name: lambda lm=lm, some=some: lm.loglikelihood(some, disable_tqdm=True)
            for name, (lm, some) in asked.items()
        },
        options.pick(7, 1),
        options.device,
    )
    beside = milliseconds(times, items)
    yield compared(
        "conditioner inside scoring: its own work",
        "plain prompts of the same length",
        ratios(times, "ecr", "same length"),
        need=1.03,
        at_least=False,
        wrong="" if lengths == padded else "sequences differ in length",
        beside=beside,
    )
    yield compared(
        "conditioner inside scoring: with its 4 positions",
        "plain prompts",
        ratios(times, "ecr", "plain"),
        need=1.03,
        at_least=False,
        beside={**beside, "tokens a context": round(sum(padded) / len(padded), 1)},
    )
