"""What every engine does for the schedule, which engines there are, and how they refuse."""

from __future__ import annotations

import io
import pickle
import socket
import threading

import pytest
from rich.console import Console

from ecr_bench.engines import registry
from ecr_bench.engines.ray_cluster import check_address
from ecr_bench.engines.registry import ENGINES, Wanted, engine_of
from ecr_bench.errors import UserError
from ecr_bench.plugin_files import PluginSource
from ecr_bench.plugins import load_plugins, load_source
from ecr_bench.runner import engine as engines
from ecr_bench.runner import pool
from ecr_bench.runner.engine import Resources
from ecr_bench.runner.execute import execute
from ecr_bench.runner.pool import Local, Processes
from ecr_bench.runner.store import Store
from ecr_bench.runner.worker import Finished, Job
from tests.helpers.commands import fails
from tests.helpers.fake_engine import AtOnce, Fake
from tests.helpers.forked import fork_workers
from tests.helpers.toy_stages import by_id, started, toy


def run(stages, folder, engine, **options):
    said = io.StringIO()
    return execute(by_id(*stages), Store(folder), Console(file=said, width=300), engine, **options), said.getvalue()


@pytest.mark.parametrize(("times", "starts"), [(1, 2), (2, 2)])
def test_a_stage_whose_process_is_lost_is_tried_once_more_alone(tmp_path, times, starts):
    log = tmp_path / "log"
    lost, good = toy(log, "lost"), toy(log, "good")
    behind = toy(log, "behind", first=lost)
    workers = AtOnce(dies={"lost": times})
    failures, said = run([lost, good, behind], tmp_path, Fake(workers))
    assert workers.submitted.count("lost") == starts and "lost: its process was lost; once more, alone" in said
    assert bool(failures) == (times == 2) == ("failed: lost: its process was lost, twice" in said)
    assert Store(tmp_path).done(good.id) and Store(tmp_path).done(behind.id) == (times == 1)


@pytest.mark.parametrize(("times", "starts"), [(4, 5), (5, 5)])
def test_a_stage_whose_machine_is_lost_is_not_to_blame_until_the_fifth(tmp_path, times, starts):
    workers = AtOnce(dies={"lost": times}, with_node=True)
    failures, said = run([toy(tmp_path / "log", "lost"), toy(tmp_path / "log", "good")], tmp_path, Fake(workers))
    assert workers.submitted.count("lost") == starts and said.count("lost: its process was lost; once more\n") == 4
    assert bool(failures) == (times == 5) == ("failed: lost: its process was lost, 5 times" in said)


def test_no_more_is_submitted_than_fits(tmp_path):
    workers = AtOnce(size=2)
    run([toy(tmp_path / "log", f"{number}") for number in range(5)], tmp_path, Fake(workers))
    assert workers.most == 2 and len(workers.submitted) == 5


def test_an_engine_is_told_what_a_stage_takes_of_memory_where_that_was_measured(tmp_path):
    workers = AtOnce()
    known, unknown = toy(tmp_path / "log", "known"), toy(tmp_path / "log", "unknown")
    run([known, unknown], tmp_path, Fake(workers), peaks={known.id: 1001})
    asked = dict(zip(workers.submitted, workers.asked, strict=True))
    assert (asked["known"].memory, asked["unknown"].memory) == (1252, 0)  # a quarter more than its peak


def test_an_engine_comes_from_a_plugin_too(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from ecr_bench.engines.registry import ENGINES\n"
        "from tests.helpers.fake_engine import Fake\n"
        "def mine(wanted):\n    return Fake()\n"
        "ENGINES.add('mine', mine, 'this process')\n"
    )
    monkeypatch.setattr(ENGINES, "entries", dict(ENGINES.entries))
    load_plugins((str(tmp_path / "mine.py"),))
    failures, _ = run([toy(tmp_path / "log", "one")], tmp_path, engine_of("mine", Wanted()))
    assert not failures and started(tmp_path / "log") == ["one"]


def test_a_plugin_travels_to_where_its_file_is_not(tmp_path, monkeypatch):
    path = tmp_path / "far.py"
    path.write_text("from ecr_bench.engines.registry import ENGINES\nENGINES.add('far', lambda wanted: None)\n")
    packed = pickle.dumps(PluginSource.of(str(path)))
    path.write_text("raise RuntimeError('another file of that name')")
    monkeypatch.setattr(ENGINES, "entries", dict(ENGINES.entries))
    load_source(pickle.loads(packed))
    assert "far" in ENGINES and ENGINES.origins["far"] == PluginSource.of(str(path)).module


def test_a_plugin_whose_engine_cannot_be_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(
        "from ecr_bench.engines.registry import ENGINES\nENGINES.add('odd', lambda: None)\n"
    )
    monkeypatch.setattr(ENGINES, "entries", dict(ENGINES.entries))
    with pytest.raises(UserError, match=r"odd\.py: engine 'odd' must be callable with \(wanted\)"):
        load_plugins((str(tmp_path / "odd.py"),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "rai"], "unknown engine 'rai': allowed are local, ray, submitit"),
        (["--address", "10.0.0.1:6379"], "--address 10.0.0.1:6379: the engine local has none"),
        (["--workers", "0"], "--workers 0: must be 1 or more"),
        (["--engine", "ray", "--address", "10.0.0.1"], "--address 10.0.0.1: must be HOST:PORT"),
        (["--engine", "submitit", "--address", "pbs"], "unknown --address of engine submitit 'pbs': allowed are"),
        (["--store", "s4://bucket/folder"], "--store s4://bucket/folder: unknown scheme 's4': known are"),
        (["--store", "folder"], "--store folder: must be a URL such as s3://bucket/folder"),
        (["--store", "file:///proc/none"], "--store file:///proc/none: cannot be written to"),
        (["--out", "s3://bucket/runs"], "must be a folder, not a URL (run and ablate take one as --store)"),
    ],
)
@pytest.mark.parametrize("command", [["run", "tiny"], ["ablate", "absent"]], ids=["run", "ablate"])
def test_what_cannot_be_is_one_line(tmp_path, capsys, monkeypatch, arguments, message, command):
    pytest.importorskip("submitit")
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *command, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ray", "submitit"])
def test_an_engine_whose_package_is_missing_says_how_to_get_it(capsys, monkeypatch, name):
    monkeypatch.setattr(registry, "find_spec", lambda package: None)
    line = fails(capsys, "run", "tiny", "--engine", name)
    assert f"the package {name} is not installed: pip install 'ecr-bench[{name}]'" in line


def test_slurm_is_asked_for_where_it_is(capsys, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    assert "there is no sbatch on this machine" in fails(capsys, "run", "tiny", "--engine", "submitit")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["web", "closes", "silent"])
def test_what_answers_and_is_no_ray_is_found_out(monkeypatch, answer):
    monkeypatch.setattr("ecr_bench.engines.ray_cluster.ANSWERS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                if answer is None:
                    threading.Event().wait(0.6)
                else:
                    connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(UserError, match="no Ray cluster"):
            check_address(place)
        serving.join()
    with pytest.raises(UserError, match="no Ray cluster answers there; start one with 'ray start --head'"):
        check_address(f"ray://{place}")  # nobody listens any more


@pytest.fixture
def gpus(monkeypatch):
    """Two, which do not exist; workers are forked."""
    fork_workers(monkeypatch)
    monkeypatch.setenv(pool.DEVICES, "5,7")
    monkeypatch.setattr(pool, "visible_gpus", lambda: ("5", "7"))


def job(stage, folder):
    return Job(stage, stage.identity, Store(folder))


def drain(processes):
    said = {}
    while processes.running:
        said |= dict(processes.messages(1.0))
    return said


def seen(log):
    """Name of a stage -> the GPUs its process saw."""
    return {
        name: devices
        for name, _, devices in (line.partition(" sees ") for line in log.read_text().splitlines())
        if devices
    }


def test_each_worker_has_a_gpu_of_its_own(tmp_path, gpus):
    log = tmp_path / "log"
    stages = [toy(log, f"s{number}", "devices", seconds=0.3) for number in range(4)]
    with Processes(2, 1, (), ("5", "7")) as processes:
        for pair in (stages[:2], stages[2:]):
            for stage in pair:
                assert processes.fits(Resources(gpus=1))
                processes.submit(job(stage, tmp_path), Resources(gpus=1))
            assert not processes.fits(Resources(gpus=1))
            assert all(isinstance(message, Finished) for message in drain(processes).values())
    found = seen(log)
    assert {found["s0"], found["s1"]} == {found["s2"], found["s3"]} == {"5", "7"}


def test_a_stage_that_takes_both_gpus_has_them_alone(tmp_path, gpus):
    log = tmp_path / "log"
    one, both = toy(log, "one", "devices", seconds=0.3), toy(log, "both", "devices")
    with Processes(2, 1, (), ("5", "7")) as processes:
        processes.submit(job(one, tmp_path), Resources(gpus=1))
        assert not processes.fits(Resources(gpus=2))
        drain(processes)
        processes.submit(job(both, tmp_path), Resources(gpus=2))
        assert not processes.fits(Resources(gpus=1))
        drain(processes)
    assert seen(log) == {"one": "5", "both": "5,7"}


def test_workers_share_gpus_where_more_are_asked_for(tmp_path, gpus):
    with Processes(3, 1, (), ("5", "7")) as processes:
        for number in range(3):
            processes.submit(
                job(toy(tmp_path / "log", f"{number}", "devices", seconds=0.3), tmp_path), Resources(gpus=1)
            )
        drain(processes)
    assert sorted(seen(tmp_path / "log").values()) in (["5", "5", "7"], ["5", "7", "7"])


def test_more_gpus_than_there_are_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "resources_of", lambda stage: Resources(gpus=4))
    monkeypatch.setattr(pool, "resources_of", engines.resources_of)
    monkeypatch.setattr(pool, "visible_gpus", lambda: ("0", "1"))
    with pytest.raises(UserError, match=r"wide: takes 4 GPUs, this machine has 2: ask for fewer"):
        run([toy(tmp_path / "log", "wide")], tmp_path, Local(1))
    assert not started(tmp_path / "log")


def test_a_cancelled_stage_is_heard_of_no_more(tmp_path, monkeypatch):
    fork_workers(monkeypatch)
    long = toy(tmp_path / "log", "long", seconds=60)
    with Processes(1, 1, ()) as processes:
        processes.submit(job(long, tmp_path), Resources())
        processes.cancel(long.id)
        assert not processes.running and processes.fits(Resources()) and not list(processes.messages(0.0))
