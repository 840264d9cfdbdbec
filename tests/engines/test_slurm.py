"""Jobs of Slurm, tried with the executors that submitit has for that: in this process, and one process a job."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from ecr_bench.engines.registry import Wanted, engine_of
from ecr_bench.errors import UserError
from ecr_bench.runner import workplace
from ecr_bench.runner.execute import execute
from ecr_bench.runner.store import Store
from tests.helpers.outside import ROOT
from tests.helpers.toy_stages import by_id, started, toy

pytest.importorskip("submitit")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """As it was, whatever a job in this process sets."""
    for name in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(stages, folder, cluster):
    said = io.StringIO()
    engine = engine_of("submitit", Wanted(address=cluster))
    return execute(by_id(*stages), Store(folder), Console(file=said, width=300), engine), said.getvalue()


def test_jobs_do_what_processes_do(tmp_path):
    log = tmp_path / "log"
    bad, good = toy(log, "bad", "raise"), toy(log, "good")
    behind, after = toy(log, "behind", first=bad), toy(log, "after", first=good)
    failures, said = run([bad, good, behind, after], tmp_path, "debug")
    assert [failure.reason for failure in failures.of.values()] == ["RuntimeError: no such luck at all"]
    assert sorted(started(log)) == ["after", "bad", "good"] and said.count("failed: bad") == 1
    assert Store(tmp_path).done(after.id) and not list((tmp_path / "store" / workplace.MARKERS).iterdir())


@pytest.mark.slow
def test_a_job_that_is_lost_is_tried_once_more(tmp_path):
    log = tmp_path / "log"
    once, good = toy(log, "once", "die once"), toy(log, "good")
    failures, said = run([once, good], tmp_path, "local")
    assert not failures and "ended without a result" in said and "; once more, alone" in said
    assert started(log).count("once") == 2 and Store(tmp_path).done(once.id) and Store(tmp_path).done(good.id)


def test_a_store_that_a_job_does_not_see_ends_the_run(tmp_path, monkeypatch):
    from ecr_bench.engines import elsewhere

    monkeypatch.setattr(elsewhere, "PATIENCE", 0.0)
    monkeypatch.setattr(elsewhere.Marker, "in_folder", False)
    with pytest.raises(UserError, match=r"store \S+ is not shared with worker on \S+: give an --out that lies on"):
        run([toy(tmp_path / "log", "one")], tmp_path, "debug")
    assert not started(tmp_path / "log")
