"""The ``plan`` command as a typed function, from which the command line makes its options."""

from __future__ import annotations

import os
from pathlib import Path


def plan(
    experiment: str,
    out: Path = Path("runs"),
    hardware: str = "auto",
    workers: int | None = None,
    set: list[str] | None = None,
    save_profile: Path | None = None,
    json: bool = False,
    plugin: list[str] | None = None,
) -> None:
    """Say what an experiment will cost before it runs: time, memory, disk, FLOPs (docs/scale.md).

    Args:
        experiment: a name from baselines/ (quick, ablation-absent) or a YAML file, as given to run or ablate.
        out: the folder that run will get; finished stages in it cost nothing.
        hardware: auto (this machine, by short stages that run now), cpu (the same without its GPU), reference (two
            cores, on which quick was measured), or FILE.json, a profile that --save-profile has written on another
            machine.
        workers: processes side by side, as run will get it.
        set: overrides, e.g. --set finetune.steps=100 (write it again for more).
        save_profile: file for what was measured here, for --hardware elsewhere.
        json: print JSON instead of a table.
        plugin: Python file that registers methods, teachers, corpora or tasks.
    """
    if hardware == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    from rich.console import Console

    from ecr_bench.config import Experiment, load, parse_set, read
    from ecr_bench.plugins import load_plugins
    from ecr_bench.runner.ablation import load_ablation

    plugins = tuple(plugin or ())
    load_plugins(plugins)
    overrides, raw = parse_set(set or []), read(experiment)
    if isinstance(raw, dict) and "axis" in raw:
        chosen: Experiment = load_ablation(experiment, overrides).experiment
    else:
        chosen = load(experiment).with_overrides(overrides)
    from ecr_bench.forecast.plan import PlanRequest, answer

    answer(PlanRequest(chosen, out, hardware, workers, plugins, save_profile, json, experiment), Console())
