"""A made-up finished run, with hostile names in it, for the tests of the page."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import yaml

from ecr_bench.arm import Arm
from ecr_bench.report.page import render_page
from ecr_bench.results.ablation_schema import AblationResult, Point, Spot
from ecr_bench.results.claims_file import judge
from ecr_bench.run import Run
from ecr_bench.types import Measure
from tests.helpers.world import ALL_CONTROLS, LEVELS, QUICK, Made, arm, make, run_of

EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2>"
CURVES = {
    "ecr-1x-0": {"train/loss": ((0, 3.0), (10, 1.0)), "train/grad_norm": ((0, 5.0), (10, 0.0))},
    "random-1x-0": {"train/loss": ((0, 3.1), (10, 1.2))},
    "pre-train-base-1x": {"train/loss": ((0, 6.0), (10, 5.0))},
}
"""Run -> tag -> (step, value)."""


@cache
def sample_made() -> Made:
    levels = LEVELS | ALL_CONTROLS | {"random-1x": 0.75, "oracle-1x": 0.8}
    return make({arm(name): level for name, level in levels.items()} | {Arm(EVIL, "1x"): 0.3}, items=40)


def sample_measures() -> list[Measure]:
    """Drift, alignment and stability of three arms over four snapshots; one metric by language, one unknown."""
    rng = np.random.default_rng(0)
    result = []
    starts = {"ecr": 0.9, "finetune": 0.7, "random": 0.72}
    for (method, start), seed in ((pair, s) for pair in starts.items() for s in range(3)):
        cell: dict[str, Any] = {"cell": f"{method}-1x-s{seed}", "arm": arm(method, "1x"), "seed": seed}
        for metric, null in (("cka_base", (0.1, 0.05, 0.15)), ("mexa", (0.01, 0.0, 0.03)), ("loss_spikes", None)):
            for step in (10, 20, 30, None):
                value = float(start - (step or 40) / 400 + rng.normal(0, 0.01))
                result.append(Measure(**cell, metric=metric, value=value, step=step, n=100, null=null))
        for lang in ("de", "ja"):
            result.append(Measure(**cell, metric="mexa", value=start, lang=lang, n=50))
        result.append(Measure(**cell, metric="grad_norm_max", value=None if seed else 3.0))
        result.append(Measure(**cell, metric=f"new_{EVIL}", value=0.5))
    return result


def sample_ablation() -> AblationResult:
    shared: dict[str, Any] = {"group": "unseen", "task": "all", "n_items": 9, "n_seeds": 1, "covers": "items"}
    points = [
        Point(
            series=series,
            label=label,
            at=None,
            arm=Arm(series, label),
            mean=mean,
            ci=(mean - 0.1, mean + 0.1),
            **shared,
        )
        for series in ("ECR", EVIL)
        for label, mean in (("0", 0.4), ("4", 0.6))
    ]
    return AblationResult(
        name="ablation", label="control tokens", log=False, numeric=False, by_size=False, precision="fp32",
        points=points, places=[Spot(series=p.series, label=p.label, at=p.at, arm=p.arm) for p in points],
        references=[points[0].model_copy(update={"series": "finetune-3x", "label": "", "arm": arm("finetune-3x")})],
        chance={"unseen/all": 0.25}, differences=[], equal_sizes=[], findings=[], notes=[], provenance={},
    )  # fmt: skip


def write_events(folder: Path) -> None:
    """``CURVES`` as event files, one sub-folder a run."""
    from torch.utils.tensorboard import SummaryWriter

    for name, by_tag in CURVES.items():
        with SummaryWriter(str(folder / name)) as writer:
            for tag, points in by_tag.items():
                for step, value in points:
                    writer.add_scalar(tag, value, step)


@cache
def sample_run() -> Run:
    """A run with claims, measures, curves and an ablation."""
    shared = {"b": "finetune-3x", "metric": "accuracy", "direction": "higher", "smallest_effect": 0.01}
    small = {"b": "finetune-1x", "direction": "higher", "smallest_effect": 0.01, "controls": []}
    claims = [
        {"id": "evil", "says": f"ECR wins {EVIL}.", "a": "ecr-1x", **shared},
        {"id": "worse", "says": "Plain wins.", "a": "finetune-1x", **shared, "b": "ecr-1x", "controls": []},
        {"id": "drifts-less", "says": "ECR drifts less.", "a": "ecr-1x", "metric": "cka_base", **small},
        {"id": "no-distill", "says": "ECR beats distillation.", "a": "ecr-1x", **shared, "b": "finetune+distill-1x"},
    ]
    made, measures = sample_made(), sample_measures()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "claims.yaml"
        path.write_text(yaml.safe_dump({"claims": claims}))
        report = judge("quick", made.facts(measures), path)
    home = Path(mkdtemp())
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    write_events(home / "tensorboard")
    provenance = {"experiment": QUICK, "commit": EVIL, "date": "2026-01-02T03:04:05"}
    run = run_of(made, measures, provenance=provenance, notes=[EVIL])
    return replace(run, claims=report, ablation=sample_ablation(), folder=home)


def without_ablation() -> Run:
    return replace(sample_run(), ablation=None)


@cache
def sample_page() -> str:
    return render_page(sample_run())
