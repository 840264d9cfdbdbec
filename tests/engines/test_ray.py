"""A Ray cluster of two nodes: what a run makes there is what it makes here, whoever is killed on the way."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from rich.console import Console

from benchmarks.engines import differing, records
from ecr_bench.engines import elsewhere
from ecr_bench.engines.elsewhere import Marker, Sample, Surroundings, look
from ecr_bench.engines.registry import Wanted, engine_of
from ecr_bench.errors import UserError
from ecr_bench.runner.execute import execute
from ecr_bench.runner.store import Store
from tests.helpers.outside import ROOT
from tests.helpers.toy_stages import by_id, started, toy, workers

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
TRIES = 6
"""A node that has not started within half a minute, which Ray takes for lost, is started anew."""
OTHERS = ("ray::IDLE", "ray::ProgressBoard")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one core; the second one may be lost and is there again for the next test."""
    from ray.cluster_utils import Cluster

    environment = {
        "PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "120", "ECR_BENCH_CHECKPOINT_SECONDS": "0",
        "RAY_health_check_failure_threshold": "3", "RAY_health_check_period_ms": "1000",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        made = _tried(lambda: Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False}))
        _tried(lambda: made.add_node(**NODE))
        yield made
        made.shutdown()


def _tried(start):
    for attempt in range(TRIES):
        before = psutil.Process().children(recursive=True)
        try:
            return start()
        except Exception:
            for process in psutil.Process().children(recursive=True):
                if process not in before:  # what is left of the node makes the next try slower
                    with contextlib.suppress(psutil.Error):
                        process.kill()
            if attempt == TRIES - 1:
                raise


@pytest.fixture
def second(cluster):
    """The node that is not the head, there when the test begins."""
    if len(cluster.list_all_nodes()) < 2:
        _tried(lambda: cluster.add_node(**NODE))
    return next(node for node in cluster.list_all_nodes() if not node.is_head())


def tasks(label: str = "") -> list[psutil.Process]:
    """Processes that are at a stage whose label, which Ray gives them as a title, begins so."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            title = (process.info["cmdline"] or [""])[0]
            if title.startswith(f"ray::{label}") and not title.startswith(OTHERS):
                found.append(process)
    return found


def run(stages, folder, address, peaks=None, **wanted):
    said = io.StringIO()
    engine = engine_of("ray", Wanted(address=address, **wanted))
    return execute(by_id(*stages), Store(folder), Console(file=said, width=300), engine, peaks=peaks), said.getvalue()


def test_a_stage_that_fails_takes_only_what_rests_on_it_along(tmp_path, cluster, second):
    log = tmp_path / "log"
    bad, refused = toy(log, "bad", "raise"), toy(log, "refused", "refuse")
    dies, once, good = toy(log, "dies", "die"), toy(log, "once", "die once"), toy(log, "good", seconds=0.2)
    behind, after = toy(log, "behind", first=dies), toy(log, "after", first=good)
    peaks = {good.id: 10**6, after.id: 10**18}  # more than any node has: it gets the largest, and is not left waiting
    failures, said = run([bad, refused, dies, once, good, behind, after], tmp_path, cluster.address, peaks)
    lost = "its process was ended, or its node was lost"
    assert {failures.stages[i].label: failure.reason for i, failure in failures.of.items()} == {
        "bad": "RuntimeError: no such luck at all",
        "refused": "corpus.rows: 0: must be positive",
        "dies": f"{lost}, twice",
    }
    assert f"once: {lost}; once more, alone" in said and "5/7" not in said.splitlines()[0]
    assert [Store(tmp_path).done(stage.id) for stage in (once, good, after, behind)] == [True, True, True, False]
    assert started(log).count("dies") == started(log).count("once") == 2
    assert not list(Store(tmp_path).workplaces())


DRIVER = """
import sys
from pathlib import Path
from rich.console import Console
from ecr_bench.engines.registry import Wanted, engine_of
from ecr_bench.runner.execute import execute
from ecr_bench.runner.store import Store
from tests.helpers.toy_stages import by_id, toy
out = Path(sys.argv[1])
stages = by_id(*(toy(out / "log", name, seconds=float(sys.argv[3])) for name in ("one", "two")))
execute(stages, Store(out), Console(), engine_of("ray", Wanted(address=sys.argv[2])))
"""


def test_stages_end_with_a_driver_that_is_killed_and_the_next_one_goes_on(tmp_path, cluster, second):
    command = [sys.executable, "-c", DRIVER, str(tmp_path), cluster.address]
    driver = subprocess.Popen([*command, "600"])
    until = time.monotonic() + 120
    while len(workers(tmp_path / "log")) < 2:
        assert driver.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    until = time.monotonic() + 30
    while any(map(psutil.pid_exists, workers(tmp_path / "log"))):
        assert time.monotonic() < until, "stages outlive their run"
        time.sleep(0.1)
    failures, _ = run([toy(tmp_path / "log", name, seconds=0.0) for name in ("one", "two")], tmp_path, cluster.address)
    assert not failures and not list(Store(tmp_path).workplaces())


def test_a_store_that_a_worker_does_not_see_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "PATIENCE", 0.0)
    around = Surroundings.here(Marker(Store(tmp_path), "0" * 32), ())
    assert f"store {tmp_path} is not shared with worker on " in look(around, b"", 0)


SETTINGS = {
    "corpus.rows": 800, "teacher.rows": 200, "pretrain.steps": 6, "finetune.steps": 30, "finetune.items": 16,
    "scoring.items": 2, "tasks": ["intent", "slot"], "precisions": ["fp32"], "geometry.measure": False,
    "cells": [{"method": "finetune", "sizes": ["1x"]}, {"method": "ecr", "sizes": ["1x"]}],
}  # fmt: skip
"""The smallest grid that pre-trains, trains and scores."""


def grid(folder, engine):
    """Its records, and what was said."""
    said = io.StringIO()
    return records("tiny", SETTINGS, folder, engine, Console(file=said, width=300)), said.getvalue()


def test_a_run_with_a_worker_killed_and_a_node_lost_is_the_local_one(tmp_path, cluster, second, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ECR_BENCH_CHECKPOINT_SECONDS", "0")
    done = threading.Event()
    killed: list[str] = []

    def harm() -> None:
        store = Store(tmp_path / "ray")
        while not done.wait(0.05):
            trained = any((store.root / "store" / "train").glob("*/done.json"))
            if not killed and any((store.root / "store" / "partial" / "train").glob("*/kept/*")):
                for victim in tasks("train "):  # it has a checkpoint to go on from
                    victim.kill()
                    killed.append("worker")
                    break
            elif killed and trained and tasks():
                cluster.remove_node(second, allow_graceful=False)
                killed.append("node")
                return

    harming = threading.Thread(target=harm)
    harming.start()
    try:
        there, said = grid(tmp_path / "ray", engine_of("ray", Wanted(address=cluster.address)))
    finally:
        done.set()
        harming.join()
    assert killed == ["worker", "node"] and "; once more, alone" in said, said
    here, _ = grid(tmp_path / "local", engine_of("local", Wanted(workers=2)))
    assert len(here) and differing(here, there) == []
    assert differing(here, here.assign(correct=~here["correct"])) == ["correct"]


def test_a_worker_with_other_packages_is_named_with_what_differs(tmp_path, cluster, second):
    import dataclasses

    stage = toy(tmp_path / "log", "one")
    planned = dataclasses.replace(stage.identity, packages={**stage.identity.packages, "pydantic": "1.0"})
    stage.__dict__["identity"] = planned  # as a driver with other packages has it
    assert Sample.of([stage]).stages[0][1] == planned
    with pytest.raises(UserError, match=r"worker on \S+ is not as this machine: package pydantic \(1\.0, now "):
        run([stage], tmp_path, cluster.address)
    assert not started(tmp_path / "log")


def test_more_gpus_than_the_cluster_has_is_one_line(tmp_path, cluster, second, monkeypatch):
    from ecr_bench.runner import engine as engines

    monkeypatch.setattr(engines, "resources_of", lambda stage: engines.Resources(gpus=2))
    with pytest.raises(UserError, match=r"one: takes 2 GPUs, the largest node of the cluster has 0"):
        run([toy(tmp_path / "log", "one")], tmp_path, cluster.address)
