"""A step of ECR against a step of plain fine-tuning, and a step that distils from a cache against a plain one.

The first may cost what its control tokens add, (T + m) / T with T the real positions of a row; its
ratio is given as a multiple of that. Rows as in ``loop``; 10M body, 16k vocabulary, m = 4 control tokens, loss on the
last 4 tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.models import body, data, rows, settings
from ecr_bench.data.encode import Example
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import thin
from ecr_bench.methods.optimisers import create_optimiser
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.teacher_logits import LogitCache

BATCH, STEPS, CONTROL, ANSWER, ANCHORS, KEPT = 16, 4, 4, 4, 257, 32


def stepper(
    module: Any, batches: Iterable[dict[str, torch.Tensor]], device: str, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Whole steps over all batches: loss (autocast for another ``dtype``), gradients, clipping, update."""
    module.log = lambda *_, **__: None
    module.to(device)
    optimiser = create_optimiser(module, module.optimiser)

    def work() -> None:
        for batch in batches:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                loss = module.loss({name: tensor.to(module.device) for name, tensor in batch.items()})
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), module.optimiser.clip)
            optimiser.step()
            optimiser.zero_grad()

    return work


def cache_of(examples: list[Example], vocabulary: int, config: Distill.Options) -> LogitCache:
    """A cache as ``build_cache`` makes it, of a teacher that is noise."""
    count = ANSWER * len(examples)
    parts = [thin(3 * torch.randn(64, vocabulary), config, torch.Generator()) for _ in range(0, count, 64)]
    labels = torch.tensor([token for row in examples for token in row.ids[row.loss_from :]])
    names = [name for name, value in vars(parts[0]).items() if value is not None]
    tensors = {name: torch.cat([getattr(part, name) for part in parts])[:count] for name in names}
    return LogitCache(torch.arange(len(examples) + 1) * ANSWER, {"labels": labels, **tensors})


def run(options: Options) -> Iterator[Result]:
    vocabulary = options.pick(16_000, 200)
    plain, conditioned = (rows(BATCH * STEPS, vocabulary, ANSWER, count) for count in (0, CONTROL))
    given = settings(STEPS, BATCH)
    finetune = Recipe.of("finetune").module(body(options, vocabulary), given)
    ecr = Recipe.of("ecr").module(body(options, vocabulary + ANCHORS), given)
    from_cache = Recipe.of("finetune", ["distill"], {"distill": {"cache_top_k": options.pick(KEPT, 8)}})
    (modifier,) = from_cache.modifiers
    assert isinstance(modifier, Distill)
    modifier.cache, modifier.vocabulary = cache_of(plain, vocabulary, modifier.options), vocabulary
    distill = from_cache.module(body(options, vocabulary), given)

    def loader(examples: list[Example]) -> Iterable[dict[str, torch.Tensor]]:
        return cast(Iterable[dict[str, torch.Tensor]], data(examples, BATCH, STEPS).train_dataloader())

    works = {
        "finetune": stepper(finetune, loader(plain), options.device),
        "ecr": stepper(ecr, loader(conditioned), options.device),
        "distill": stepper(distill, loader(plain), options.device),
    }
    times = interleaved(works, options.pick(5, 1), options.device)
    longer = _positions(conditioned) / _positions(plain)
    yield compared(
        "ecr step, as a multiple of (T + m) / T",
        "finetune step",
        [ratio / longer for ratio in ratios(times, "ecr", "finetune")],
        need=1.02,
        at_least=False,
        beside={**milliseconds(times, STEPS), "(T + m) / T": round(longer, 3)},
    )
    yield compared(
        f"step that distils from a cache ({options.pick(KEPT, 8)} ids)",
        "plain cross-entropy step",
        ratios(times, "distill", "finetune"),
        need=1.10,
        at_least=False,
        beside=milliseconds(times, STEPS),
    )


def _positions(examples: list[Example]) -> int:
    """Positions that a pass over all batches computes: all but each row's last, which predicts nothing."""
    return sum(len(row.ids) - 1 for row in examples)
