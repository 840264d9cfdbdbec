"""A training step with ``torch.compile`` against one without: 10M body, 16k vocabulary, fp32 and bf16 autocast.

Batches differ in length from step to step, as in training, so the body is compiled for any length. The seconds that
compiling takes are beside, and the number of steps after which it has paid.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Options, Result, compared, interleaved, milliseconds, ratios
from benchmarks.models import body, data, rows, settings
from benchmarks.steps import stepper
from ecr_bench.methods.base import CausalLMModule, cross_entropy

BATCH, STEPS = 32, 6


def run(options: Options) -> Iterator[Result]:
    vocabulary, steps = options.pick(16_000, 200), options.pick(STEPS, 2)
    given = settings(STEPS, BATCH)
    loader = data(rows(BATCH * steps * 4, vocabulary), BATCH, steps).train_dataloader()
    batches = [{name: tensor.to(options.device) for name, tensor in batch.items()} for batch in loader]
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        torch.compiler.reset()
        model = body(options, vocabulary)
        model.model.forward = torch.compile(model.model.forward, dynamic=True)
        plain = body(options, vocabulary)
        with torch.no_grad():
            losses = [float(cross_entropy(some.to(options.device), batches[0])) for some in (plain, model)]
        off = abs(losses[1] / losses[0] - 1)
        works = {
            "eager": stepper(CausalLMModule(plain, given), batches, options.device, dtype),
            "compiled": stepper(CausalLMModule(model, given), batches, options.device, dtype),
        }
        started = time.perf_counter()
        works["compiled"]()
        spent = time.perf_counter() - started
        times = interleaved(works, options.pick(3, 1), options.device)
        gain = (min(times["eager"]) - min(times["compiled"])) / len(batches)
        set_up = max(0.0, spent - min(times["compiled"]))
        yield compared(
            f"training step, {name}, eager over compiled",
            "torch.compile(dynamic=True) of the body",
            ratios(times, "eager", "compiled"),
            wrong=f"loss differs by {off:.1e}" if off > 1e-4 else "",
            beside={
                **milliseconds(times, len(batches)),
                "compiling s": round(set_up, 1),
                "pays after steps": round(set_up / gain) if gain > 0 else "never",
            },
        )
