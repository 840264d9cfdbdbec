"""Workers: they die with their parent, a signal is one line, one that dies or fails takes nobody along."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from ecr_bench.errors import UserError
from ecr_bench.runner.execute import execute
from ecr_bench.runner.failures import StageError
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from tests.helpers.forked import fork_workers
from tests.helpers.outside import ROOT
from tests.helpers.toy_stages import by_id, started, toy, workers

RUN = '''
import sys
from pathlib import Path
from rich.console import Console
from ecr_bench import cli
from ecr_bench.runner.execute import execute
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from tests.helpers.toy_stages import by_id, toy

def go(out: Path):
    """Wait.

    Args:
        out: folder for results.
    """
    log = out / "log"
    stages = by_id(toy(log, "long", seconds=60), toy(log, "longer", seconds=60))
    execute(stages, Store(out), Console(), Local(2))

cli.COMMANDS["go"] = go
if __name__ == "__main__":
    cli.main(["go", sys.argv[1]])
'''


class Running:
    """A run of two stages that wait a minute each, in a process and a process group of its own."""

    def __init__(self, folder: Path):
        self.out = folder / "out"
        self.out.mkdir(parents=True)
        (folder / "go.py").write_text(RUN)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "go.py"), str(self.out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, text=True, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 120
        while len(workers(self.out / "log")) < 2:
            assert self.process.poll() is None and time.monotonic() < until, self.process.communicate()
            time.sleep(0.05)

    def group(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, ProcessLookupError):
                pass
        return found

    def end(self) -> tuple[int, list[str]]:
        """Exit code and lines on stderr, within two seconds (and what a loaded machine adds)."""
        _, said = self.process.communicate(timeout=30)
        until = time.monotonic() + 2
        while self.group() and time.monotonic() < until:
            time.sleep(0.02)
        assert not self.group()
        return self.process.returncode, said.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "line"),
    [
        (signal.SIGINT, 130, "ecr-bench: interrupted; finished stages are kept, the same command resumes"),
        (signal.SIGTERM, 143, "ecr-bench: terminated; finished stages are kept, the same command resumes"),
    ],
)
@pytest.mark.parametrize("everybody", [False, True], ids=["parent", "group"])
def test_a_signal_is_one_line_and_leaves_nothing(tmp_path, sent, code, line, everybody):
    running = Running(tmp_path)
    if everybody:
        os.killpg(running.process.pid, sent)
    else:
        running.process.send_signal(sent)
    assert running.end() == (code, [line])
    assert not list(Store(running.out).workplaces())


@pytest.mark.slow
def test_ctrl_c_twice_is_one_line_too(tmp_path):
    running = Running(tmp_path)
    for _ in range(2):
        os.killpg(running.process.pid, signal.SIGINT)
    code, lines = running.end()
    assert code == 130 and len(lines) == 1


@pytest.mark.slow
def test_workers_die_with_a_parent_that_is_killed(tmp_path):
    running = Running(tmp_path)
    running.process.kill()
    code, lines = running.end()
    assert (code, lines) == (-signal.SIGKILL, [])
    store = Store(running.out)
    assert len(list(store.workplaces())) == 2  # nobody was left to sweep them
    store.sweep()
    assert not list(store.workplaces())


@pytest.fixture
def forked(monkeypatch):
    """Workers at once; that fresh ones do as well is what the tests with signals show."""
    fork_workers(monkeypatch)


def run(stages, tmp_path, workers=2):
    said = io.StringIO()
    failures = execute(by_id(*stages), Store(tmp_path), Console(file=said, width=300), Local(workers))
    return failures, said.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "reason", "starts"),
    [
        ("raise", "RuntimeError: no such luck at all", 1),
        ("refuse", "corpus.rows: 0: must be positive", 1),
        ("memory", "MemoryError, twice", 2),
        ("die", "its process was ended by SIGKILL (out of memory?), twice", 2),
        ("exit", "its process ended with exit code 7, twice", 2),
    ],
)
def test_a_stage_that_fails_takes_only_what_rests_on_it_along(tmp_path, forked, does, reason, starts):
    log = tmp_path / "log"
    bad = toy(log, "bad", does)
    behind, good = toy(log, "behind", first=bad), toy(log, "good", seconds=0.2)
    after = toy(log, "after", first=good)
    failures, said = run([bad, behind, good, after], tmp_path)
    assert [failures.of[bad.id].reason] == [reason] and len(failures.of) == 1
    assert failures.behind(behind.id) is failures.of[bad.id] and failures.behind(after.id) is None
    assert sorted(started(log)) == sorted(["bad"] * starts + ["good", "after"])
    store = Store(tmp_path)
    assert [store.done(s.id) for s in (bad, behind, good, after)] == [False, False, True, True]
    assert not list(store.workplaces())
    assert said.count("failed: bad") == 1
    with pytest.raises(StageError if does != "refuse" and failures.of[bad.id].trace else UserError, match="bad: "):
        failures.raise_first()


@pytest.mark.slow
def test_a_worker_that_was_killed_is_tried_once_more_alone(tmp_path, forked):
    log = tmp_path / "log"
    stages = [toy(log, "unlucky", "die once"), toy(log, "long", seconds=1), toy(log, "late")]
    failures, said = run(stages, tmp_path)
    assert not failures and "once more, alone" in said
    assert all(Store(tmp_path).done(stage.id) for stage in stages)
    assert started(log).count("unlucky") == 2


def test_a_full_disk_ends_the_run_at_once(tmp_path, forked):
    log = tmp_path / "log"
    stages = [toy(log, "full", "disk"), toy(log, "long", seconds=60), *(toy(log, f"{i}") for i in range(3))]
    with pytest.raises(UserError, match="no space left on device"):
        run(stages, tmp_path)
    assert not list(Store(tmp_path).workplaces())


@pytest.mark.slow
def test_two_runs_on_one_folder_share_the_work(tmp_path):
    log = tmp_path / "log"
    names = [f"stage{i}" for i in range(8)]
    script = (
        "import sys, io\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from ecr_bench.runner.execute import execute\nfrom ecr_bench.runner.pool import Local\n"
        "from ecr_bench.runner.store import Store\n"
        "from tests.helpers.toy_stages import by_id, toy\n"
        "if __name__ == '__main__':\n"
        "    out = Path(sys.argv[1])\n"
        f"    stages = by_id(*(toy(out / 'log', name, 'meet') for name in {names}))\n"
        "    assert not execute(stages, Store(out), Console(file=io.StringIO()), Local(2))\n"
    )
    (tmp_path / "share.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "share.py"), str(tmp_path)]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert sorted(started(log)) == names  # each once, by whichever came first
    assert len(workers(log)) > 2  # of both runs: either has two
    assert not list(Store(tmp_path).workplaces())
