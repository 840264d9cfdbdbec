"""Every method with every modifier that it goes with trains from a plan, with what the plan gives each and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.gpu_methods import NEEDS
from ecr_bench.config import load
from ecr_bench.errors import UserError
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.runner.execute import execute
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store

SMALL: dict[str, Any] = {
    "corpus.rows": 400, "corpus.languages": ["en", "de"], "seen_languages": ["en"], "tokenizer.vocab_size": 400,
    "teacher": {"name": "bag", "rows": 80, "options": {"dim": 16}}, "anchors.k": 8, "projection.options": {"rank": 4},
    "sizes.1x.hidden_size": 16, "sizes.1x.intermediate_size": 16, "sizes.3x.hidden_size": 16,
    "sizes.3x.intermediate_size": 16, "pretrain.steps": 2, "finetune.steps": 2, "pretrain.batch_size": 4,
    "finetune.batch_size": 4, "finetune.items": 16, "tasks": ["intent", "slot"], "precisions": ["fp32"],
    "geometry.measure": False, "geometry.snapshots": 0,
}  # fmt: skip


def pairs() -> Iterator[dict[str, Any]]:
    for method in METHODS:
        for modifier in MODIFIERS:
            try:
                Recipe.of(method, [modifier])
            except UserError:
                continue
            yield {"method": method, "with": [modifier], "sizes": ["1x"], "set": NEEDS.get(modifier, {})}


@pytest.mark.slow
def test_all_that_compose_train(tmp_path: Path) -> None:
    cells = list(pairs())
    plan = make_plan(load("tiny").with_overrides({**SMALL, "control_tokens.from": "pretraining", "cells": cells}))
    trained = {cell.train for cell in plan.cells}
    assert len(trained) == len(cells) >= 40
    stages = {key: stage for key, stage in plan.stages.items() if stage.kind not in ("score", "geometry", "curves")}
    assert trained <= stages.keys()
    failures = execute(stages, Store(tmp_path / "runs"), Console(quiet=True), Local(1))
    failures.raise_first()
