"""Which function does the work of each kind of stage. It reads its inputs' folders and fills its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecr_bench.divergence import KEY, inherited
from ecr_bench.registry import Registry
from ecr_bench.runner.plan import Stage
from ecr_bench.runner.store import Store

Report = Callable[[int, int], None]
"""Called with (done, total) in the stage's own unit."""

STAGES = Registry(
    "stage",
    {
        "corpus": "ecr_bench.runner.building:corpus_stage",
        "tokenizer": "ecr_bench.runner.building:tokenizer_stage",
        "items": "ecr_bench.runner.building:items_stage",
        "base": "ecr_bench.runner.building:base_stage",
        "anchors": "ecr_bench.runner.anchoring:anchors_stage",
        "logits": "ecr_bench.runner.cells:logits_stage",
        "train": "ecr_bench.runner.cells:train_stage",
        "score": "ecr_bench.runner.cells:score_stage",
        "parallel": "ecr_bench.runner.geometry:parallel_stage",
        "geometry": "ecr_bench.runner.geometry:geometry_stage",
    },
)
"""Kind -> function(spec, folders of the inputs by role, own folder, report) -> result, plain JSON."""

COPES = frozenset({"geometry"})
"""Kinds that have something to say of a model that diverged."""


def run_stage(stage: Stage, store: Store, report: Report) -> dict[str, Any]:
    """Run ``stage`` unless it is done, and return its result.

    What rests on a model that diverged is not run: its result is the reason (``ecr_bench.divergence``).
    """
    if not store.done(stage.id):
        inputs = {role: store.path(stage_id) for role, stage_id in stage.inputs.items()}
        work = STAGES.get(stage.kind)

        def build(folder: Path) -> dict[str, Any]:
            given = {} if stage.kind in COPES else {r: store.result(i) for r, i in stage.inputs.items()}
            if reason := inherited(given):
                return {KEY: reason, "seconds": 0.0}
            started = time.perf_counter()
            result = work(stage.spec, inputs, folder, report)
            return {**result, "seconds": round(time.perf_counter() - started, 2)}

        store.write(stage.id, {"kind": stage.kind, **stage.spec, "inputs": stage.inputs}, build)
    return store.result(stage.id)
