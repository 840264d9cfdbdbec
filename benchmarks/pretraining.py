"""Pre-training behind control tokens against plain pre-training: sizes, batches and tokens of ``quick``.

Two ratios. *Its own work* (projection, codes, ids): the plain side has as many tokens that say nothing in front of
each text, so that both train on rows of the same lengths. *All of it*: against plain rows, as a multiple of
(T + m) / T with T the positions of a row. Timed is encoding the texts of some steps, each drawn once, and these steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.conditioner import fitted_on_noise, sentences
from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.steps import stepper
from ecr_bench.config import AnchorsConfig, Experiment, load
from ecr_bench.data.cutting import TextRow, whole_texts
from ecr_bench.data.encode import Example, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.methods.method import Ingredients
from ecr_bench.methods.models import base_model
from ecr_bench.methods.recipe import Recipe

WINDOW = 256


def ingredients(experiment: Experiment, texts: list[str], options: Options) -> Ingredients:
    """Tokenizer, anchors and projection of the experiment's kinds, fitted on ``texts`` and noise."""
    config = AnchorsConfig(k=options.pick(experiment.anchors.k, 24))
    tokenizer, anchors, projection = fitted_on_noise(texts, options.pick(4000, 400), config, options.pick(64, 8))
    return Ingredients(tokenizer, experiment.control_tokens, ("en",), config.k, 1, 64, anchors, projection)


def padded(rows: list[Example], count: int, token: int) -> list[Example]:
    """``rows`` with ``count`` times the same token behind their first one."""
    return [
        dataclasses.replace(row, ids=[row.ids[0], *[token] * count, *row.ids[1:]], loss_from=1 + count) for row in rows
    ]


def run(options: Options) -> Iterator[Result]:
    experiment = load("quick")
    pretrain = experiment.pretrain.model_copy(update={"steps": options.pick(8, 2)})
    batch = options.pick(pretrain.batch_size, 4)
    texts = sentences(max(batch * pretrain.steps, options.pick(3000, 200)))
    given = ingredients(experiment, texts, options)
    rows: list[TextRow] = whole_texts((text, "en") for text in texts[: batch * pretrain.steps])
    conditioner, plain = Recipe.of("ecr").conditioner(given), Recipe.of("finetune").conditioner(given)
    count, idle = conditioner.count, given.tokenizer.eos_token_id

    def encoded(by: Conditioner, extra: int = 0) -> list[Example]:
        found = encode_texts(by, rows, WINDOW)
        return padded(found, extra, idle) if extra else found

    for size in ("1x", "3x"):

        def work(method: str, encode: Callable[[], list[Example]], size: str = size) -> Callable[[], None]:
            model = base_model(experiment.sizes[size], given.tokenizer, 0, as_is=False)
            if method == "ecr":
                assert conditioner.tokens is not None
                conditioner.tokens.add_to(model, 0.02, 0)
            module: Any = Recipe.of(method).module(model, pretrain)

            def steps() -> None:
                mixture = Mixture([], encode(), 1.0)
                data = ExamplesDataModule(mixture, [], given.tokenizer.pad_token_id, batch, pretrain.steps, 0)
                stepper(module, data.train_dataloader(), options.device)()  # type: ignore[arg-type]

            return steps

        works = {
            "ecr": work("ecr", lambda: encoded(conditioner)),
            "same length": work("finetune", lambda: encoded(plain, count)),
            "plain": work("finetune", lambda: encoded(plain)),
        }
        times = interleaved(works, options.pick(7, 1), options.device)
        lengths = [sum(len(row.ids) - 1 for row in found) for found in (encoded(conditioner), encoded(plain))]
        longer = lengths[0] / lengths[1]
        beside = {**milliseconds(times, pretrain.steps), "(T + m) / T": round(longer, 3), "m": count}
        yield compared(
            f"pre-training {size} behind {count} control tokens: its own work",
            "plain pre-training on rows of the same length",
            ratios(times, "ecr", "same length"),
            need=1.02,
            at_least=False,
            beside=beside,
        )
        yield compared(
            f"pre-training {size} behind {count} control tokens, as a multiple of (T + m) / T",
            "plain pre-training",
            [ratio / longer for ratio in ratios(times, "ecr", "plain")],
            need=1.02,
            at_least=False,
            beside=beside,
        )
