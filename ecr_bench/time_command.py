"""The ``time`` command as a typed function, from which the command line makes its options."""

from __future__ import annotations

from pathlib import Path


def time(
    experiment: str,
    out: Path = Path("runs"),
    to: Path | None = None,
    rounds: int = 5,
    steps: int = 40,
    arms: list[str] | None = None,
    precisions: list[str] | None = None,
    set: list[str] | None = None,
    plugin: list[str] | None = None,
) -> None:
    """Time the arms of a finished run in turn, so that claims about time can be judged.

    Args:
        experiment: a name from baselines/ (quick) or a YAML file, as given to run.
        out: the folder given to run; finished stages in it are reused.
        to: folder of the published run that gets timings.json (default: the experiment's own in --out).
        rounds: how often every arm is timed, 3 or more.
        steps: steps of fine-tuning a round, in tens, after 10 to warm up.
        arms: only these, as the board prints them.
        precisions: scoring only in these.
        set: the overrides given to run.
        plugin: Python file that registers methods, teachers, corpora or tasks.
    """
    from rich.console import Console

    from ecr_bench.config import load, parse_set
    from ecr_bench.plugins import load_plugins

    plugins = tuple(plugin or ())
    load_plugins(plugins)
    config = load(experiment).with_overrides(parse_set(set or []))
    from ecr_bench.timing import Asked, time_and_publish

    asked = Asked(config, out, rounds, steps, to, tuple(arms or ()), tuple(precisions or ()), plugins)
    time_and_publish(asked, Console())
