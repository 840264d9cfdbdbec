"""Kill a small run again and again, anywhere and in every way, and see what it costs.

Each run is a process of its own with two workers. It is killed at a random moment, given again as the same command, and
killed again, until it ends by itself; then its results are compared with those of a run that nobody disturbed. To be
quick, processes are forked from one that has imported everything (a real run starts fresh ones).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecr_bench.io import PART, read_json, sha256
from ecr_bench.runner.store import DONE, Store

SETTINGS = (
    "corpus.rows=400", "corpus.languages=[en, de]", "seen_languages=[en]", "tokenizer.vocab_size=400",
    "teacher.name=bag", "teacher.rows=80", "teacher.options={dim: 16}", "anchors.k=8", "projection.options={rank: 4}",
    "sizes.1x.hidden_size=16", "sizes.1x.intermediate_size=16", "pretrain.steps=13", "finetune.steps=13",
    "pretrain.batch_size=4", "finetune.batch_size=4", "finetune.items=16", "scoring.items=2", "tasks=[intent, slot]",
    "precisions=[fp32]", "geometry.measure=false",
    "cells=[{method: finetune, sizes: [1x]}, {method: ecr, with: [dropout], sizes: [1x]}]",
)  # fmt: skip
"""The smallest grid that has every kind of stage that takes long: anchors, pre-training, fine-tuning, scoring."""
TIMES = {"train_seconds", "peak_memory", "scoring_memory", "ms_per_item"}
"""What no two runs have alike."""
MOST = 2.0
"""Seconds in which all processes of a run are gone after its parent."""


@dataclass(frozen=True)
class Kind:
    """Who gets which signal."""

    name: str
    signal: signal.Signals
    whom: str
    """``worker`` (one of them), ``parent``, or ``all``."""


KINDS = (
    Kind("SIGKILL to a worker", signal.SIGKILL, "worker"),
    Kind("SIGTERM to a worker", signal.SIGTERM, "worker"),
    Kind("SIGKILL to the parent alone", signal.SIGKILL, "parent"),
    Kind("SIGTERM to the parent alone", signal.SIGTERM, "parent"),
    Kind("SIGINT to the parent alone", signal.SIGINT, "parent"),
    Kind("SIGKILL to all at once", signal.SIGKILL, "all"),
    Kind("SIGINT to all at once (Ctrl-C)", signal.SIGINT, "all"),
)
MOMENTS = ("any", "train", "base", "score")
"""Any moment, or one at which a stage of this kind is being made."""


@dataclass
class Tally:
    """What came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    """By kind."""
    during: Counter[str] = field(default_factory=Counter)
    """By kind of the stages at work."""
    resumed: int = 0
    """Kills after which a checkpoint or a finished part was there to go on from."""
    runs: int = 0
    """That came to their end, compared with the undisturbed one."""
    differing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Finished stages that were gone or made once more."""
    processes: int = 0
    """Left after ``MOST`` seconds."""
    folders: list[str] = field(default_factory=list)
    """Temporary files and folders left at the end of a run."""
    noise: list[str] = field(default_factory=list)
    """What a killed run said beside its one line."""
    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    """Seconds until the last process was gone."""

    def add(self, other: Tally) -> None:
        """Count another torment in."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            setattr(self, name, max(own, value) if name == "slowest" else own + value)


class Started:
    """A run in a process group of its own."""

    def __init__(self, out: Path):
        self.out, self.log = out, out.parent / f"{out.name}.log"
        self.log.unlink(missing_ok=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_child(out, self.log))
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def others(self) -> list[int]:
        """Workers: processes of its session beside itself, zombies left out."""
        found = []
        for name in (path.name for path in Path("/proc").iterdir()):
            if name.isdigit() and int(name) != self.pid:
                try:
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.pid and fields[0] not in "ZX":
                    found.append(int(name))
        return found

    def said(self) -> list[str]:
        """Lines on stderr."""
        return self.log.read_text(errors="replace").splitlines()


def _child(out: Path, log: Path) -> int:
    from ecr_bench import cli
    from ecr_bench.runner import pool

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would we
    pool.START = "fork"
    os.environ["ECR_BENCH_CHECKPOINT_SECONDS"] = "0"
    with log.open("w") as errors, Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        try:
            arguments = [part for setting in SETTINGS for part in ("--set", setting)]
            cli.main(["run", "tiny", "--out", str(out), "--workers", "2", *arguments])
        except SystemExit as error:
            return int(error.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
            return 1
        return 0


def preload() -> None:
    """Import what workers need, so that it is there after a fork."""
    import lightning
    import lm_eval
    import torch
    import transformers

    from ecr_bench.methods import dropout, ecr, finetune
    from ecr_bench.publish import run_and_publish
    from ecr_bench.stages import curves, fitting

    assert all((lightning, lm_eval, transformers, dropout, ecr, finetune, run_and_publish, curves, fitting))
    torch.set_num_threads(1)


def results(out: Path) -> dict[str, Any]:
    """Everything a run has made that is no measure of time: stage files by hash, results, records."""
    found: dict[str, Any] = {}
    for path in sorted((out / "store").glob("*/*/*")):
        kind, key = path.parent.parent.name, path.parent.name
        if path.name == DONE:
            found[f"{kind}/{key}"] = _timeless(read_json(path)["result"])
    for stage_id in list(found):
        folder = out / "store" / stage_id
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != DONE and "tensorboard" not in path.parts:
                found[f"{stage_id}/{path.relative_to(folder)}"] = sha256(path)
    for name in ("records.parquet", "measures.json"):
        found[name] = sha256(out / "tiny" / name)
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in TIMES}
    return value


def undisturbed(out: Path) -> dict[str, Any]:
    """Results of a run that nobody kills."""
    started = Started(out)
    while started.poll() is None:
        time.sleep(0.05)
    if started.code != 0:
        raise RuntimeError(f"the undisturbed run ended with {started.code}: {started.said()}")
    return results(out)


def torment(root: Path, kills: int, seed: int, tell: Callable[[str], None] = lambda line: None) -> Tally:
    """Kill runs in ``root`` until there were ``kills`` kills and the last run has come to its end."""
    preload()
    rng, tally = random.Random(seed), Tally()
    wanted = undisturbed(root / "whole")
    tell(f"undisturbed: {len(wanted)} files and results")
    plan = [(KINDS[i % len(KINDS)], MOMENTS[i // len(KINDS) % len(MOMENTS)]) for i in range(kills)]
    rng.shuffle(plan)
    while plan:
        out = root / f"run{tally.runs}"
        finished: dict[str, tuple[int, int]] = {}
        while True:
            started = Started(out)
            _disturb(started, plan, rng, tally)
            finished = _compare_finished(out, finished, tally)
            if started.code == 0:
                break
        found = results(out)
        tally.runs += 1
        tally.differing += [f"{out.name}: {name}" for name in wanted | found if wanted.get(name) != found.get(name)]
        tally.folders += _left(out)
        tell(f"{sum(tally.kills.values())} kills, {tally.runs} runs at their end, {len(tally.differing)} differences")
        shutil.rmtree(out)
    return tally


def _disturb(started: Started, plan: list[tuple[Kind, str]], rng: random.Random, tally: Tally) -> None:
    """Kill it, or workers of it until it ends; let it go on where the plan is done."""
    while started.poll() is None:
        if not plan:
            time.sleep(0.05)
            continue
        kind, moment = plan[-1]
        if not _wait_for(started, kind, moment, rng):
            return
        at_work = {place.stage_id.partition("/")[0] for place in Store(started.out).workplaces()}
        if not _kill(started, kind, rng):
            continue
        plan.pop()
        tally.kills[kind.name] += 1
        tally.during.update(at_work or {"nothing"})
        tally.resumed += any((started.out / "store" / "partial").glob("*/*/kept/*"))
        if kind.whom != "worker":
            _count_what_is_left(started, kind, tally)


def _wait_for(started: Started, kind: Kind, moment: str, rng: random.Random) -> bool:
    """Until the moment has come; False where the run ended before."""
    while started.poll() is None and not started.log.exists():  # before that it is Python that is killed
        time.sleep(0.005)
    until = time.monotonic() + rng.uniform(0, 6)
    while started.poll() is None:
        ready = moment != "any" or time.monotonic() > until
        if moment != "any":
            ready = any((started.out / "store" / "partial" / moment).glob("*/made")) or time.monotonic() > until + 20
        if ready and (kind.whom == "parent" or started.others()):
            time.sleep(rng.uniform(0, 1.0))
            return started.poll() is None
        time.sleep(0.005)
    return False


def _kill(started: Started, kind: Kind, rng: random.Random) -> bool:
    try:
        if kind.whom == "parent":
            os.kill(started.pid, kind.signal)
        elif kind.whom == "all":
            os.killpg(started.pid, kind.signal)
        elif others := started.others():
            os.kill(rng.choice(others), kind.signal)
        else:
            return False
    except ProcessLookupError:
        return False
    return True


def _count_what_is_left(started: Started, kind: Kind, tally: Tally) -> None:
    asked = time.monotonic()
    while started.poll() is None and time.monotonic() < asked + 60:
        time.sleep(0.005)
    gone = time.monotonic()  # of the parent: it has its own work to end
    while started.others() and time.monotonic() < gone + MOST:
        time.sleep(0.005)
    tally.slowest = max(tally.slowest, time.monotonic() - gone)
    tally.processes += len(started.others())
    tally.codes[started.code if started.code is not None else 1000] += 1
    expected = {signal.SIGKILL: (-9, 0), signal.SIGINT: (130, 1), signal.SIGTERM: (143, 1)}[kind.signal]
    if (started.code, len(said := started.said())) != expected and started.code != 0:
        tally.noise.append(f"{kind.name}: exit code {started.code}: {said}")


def _compare_finished(out: Path, before: dict[str, tuple[int, int]], tally: Tally) -> dict[str, tuple[int, int]]:
    """Stages that are done, with inode and time; one that was done before is the very same still."""
    now = {}
    for path in sorted((out / "store").glob(f"*/*/{DONE}")):
        state = path.stat()
        now[f"{path.parent.parent.name}/{path.parent.name}"] = (state.st_ino, state.st_mtime_ns)
    tally.lost += [stage for stage, state in before.items() if now.get(stage) != state]
    return now


def _left(out: Path) -> list[str]:
    """Temporary files and folders."""
    found = list(out.rglob(f"*{PART}")) + list((out / "store").glob("partial/*/*"))
    found += list((out / "store").glob("damaged/*/*"))
    return [str(path.relative_to(out)) for path in found]
