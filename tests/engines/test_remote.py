"""A store behind a URL: whole stages go up and come down, one machine makes each, damage is found."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import threading

import pytest
from rich.console import Console

from ecr_bench.engines.elsewhere import Surroundings, at_work, marked
from ecr_bench.errors import UserError
from ecr_bench.runner import remote as remotes
from ecr_bench.runner.execute import execute
from ecr_bench.runner.remote import Remote, remote_of
from ecr_bench.runner.store import DamagedStageError, Store
from ecr_bench.runner.worker import Finished, Job
from ecr_bench.runner.workplace import BusyError
from tests.helpers.fake_engine import Fake
from tests.helpers.toy_stages import by_id, started, toy


@pytest.fixture(scope="module")
def server():
    """An object store of this machine, with a bucket."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    serving = moto.ThreadedMotoServer(port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    place = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("bucket")
        yield
    serving.stop()


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def remote(request, tmp_path, monkeypatch):
    monkeypatch.setattr(remotes, "SETTLE", 0.01)
    monkeypatch.setattr(remotes, "LOOK_AGAIN", 0.05)
    if request.param == "s3":
        request.getfixturevalue("server")
        return remote_of(f"s3://bucket/{tmp_path.name}")
    return remote_of(f"file://{tmp_path}/there")


def run(stages, store):
    said = io.StringIO()
    assert not execute(by_id(*stages), store, Console(file=said, width=300), Fake())
    return said.getvalue()


def test_what_one_machine_made_another_one_fetches(tmp_path, remote):
    log = tmp_path / "log"
    first = toy(log, "first")
    second, third = toy(log, "second", first=first), toy(log, "third", first=first)
    run([first, second], Store(tmp_path / "one", remote))
    assert remote.stages() == {first.id, second.id}
    said = run([first, second, third], Store(tmp_path / "two", remote))
    assert "3 stages: 2 cached, 1 to run" in said
    assert sorted(started(log)) == ["first", "second", "third"]
    one, two = (Store(tmp_path / name) for name in ("one", "two"))
    assert one.record(second.id) == two.record(second.id) and not two.damage(second.id, whole=True)
    assert not list(one.workplaces()) and not list(two.workplaces())
    assert remote.fs.find(remote._at("locks")) == remote.fs.find(remote._at("markers")) == []


def test_what_was_made_without_the_url_goes_there_with_it(tmp_path, remote):
    stage = toy(tmp_path / "log", "early")
    run([stage], Store(tmp_path / "one"))
    run([stage], Store(tmp_path / "one", remote))
    assert remote.has(stage.id) and Store(tmp_path / "two", remote).obtain(stage.id)
    assert started(tmp_path / "log") == ["early"]


@pytest.mark.parametrize("how", ["changed", "missing", "added"])
def test_a_stage_that_does_not_arrive_as_it_was_is_refused(tmp_path, remote, how):
    stage = toy(tmp_path / "log", "one")
    run([stage], Store(tmp_path / "one", remote))
    name = next(name for name in remote.fs.find(remote._at(stage.id)) if name.endswith("large.bin"))
    match how:
        case "changed":
            remote.fs.pipe_file(name, b"1" * 100)
        case "missing":
            remote.fs.rm_file(name)
        case "added":
            remote.fs.pipe_file(name.replace("large", "larger"), b"")
    two = Store(tmp_path / "two", remote)
    with pytest.raises(DamagedStageError, match=r"large\w*\.bin: .* is not what was uploaded; delete it there"):
        two.obtain(stage.id)
    assert not two.done(stage.id) and not list(two.workplaces())


def test_half_an_upload_is_no_stage(tmp_path, remote, monkeypatch):
    stage = toy(tmp_path / "log", "one")
    run([stage], Store(tmp_path / "one"))
    whole = Remote._create
    monkeypatch.setattr(Remote, "_create", lambda self, path, data: 1 / 0)  # the machine is gone before the last step
    with pytest.raises(UserError):
        remote.push(stage.id, Store(tmp_path / "one").path(stage.id))
    monkeypatch.setattr(Remote, "_create", whole)
    assert remote.fs.find(remote._at(stage.id)) and not remote.has(stage.id) and remote.stages() == set()
    assert not Store(tmp_path / "two", remote).obtain(stage.id)


def test_of_two_uploads_the_first_one_counts(tmp_path, remote, monkeypatch):
    stage = toy(tmp_path / "log", "one")
    for name in ("one", "two"):
        run([stage], Store(tmp_path / name))
    remote.push(stage.id, Store(tmp_path / "one").path(stage.id))
    before = remote.fs.find(remote._at(stage.id))
    monkeypatch.setattr(Remote, "has", lambda self, stage_id: False)  # both found nothing
    remote.push(stage.id, Store(tmp_path / "two").path(stage.id))
    assert remote.fs.find(remote._at(stage.id)) == before


def test_a_lock_is_one_owners(remote):
    with remote.lock("toy/a"):
        with pytest.raises(BusyError), Remote(remote.url).lock("toy/a", wait=False):
            pass
        with remote.lock("toy/b", wait=False):
            pass
    with remote.lock("toy/a", wait=False):
        pass


def test_many_who_want_a_lock_have_it_in_turn(remote):
    inside, most, had = 0, 0, []

    def want(number: int) -> None:
        nonlocal inside, most
        with remote.lock("toy/a"):
            inside += 1
            most = max(most, inside)
            had.append(number)
            inside -= 1

    threads = [threading.Thread(target=want, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and sorted(had) == [0, 1, 2, 3]


def test_a_lock_without_a_sign_of_life_is_taken_over(remote, monkeypatch):
    path = remote._at("locks", "toy/a")
    remote.fs.pipe_file(path, b"a machine that is gone") if "s3" in remote.url else remote._create(path, b"gone")
    with pytest.raises(BusyError), remote.lock("toy/a", wait=False):
        pass
    monkeypatch.setattr(remotes, "STALE", -1.0)
    with remote.lock("toy/a", wait=False):
        monkeypatch.undo()
        with pytest.raises(BusyError), remote.lock("toy/a", wait=False):
            pass
    assert not remote.fs.exists(path)


def test_who_holds_a_lock_gives_signs_of_life(remote, monkeypatch):
    monkeypatch.setattr(remotes, "BEAT", 0.05)
    with remote.lock("toy/a"):
        path = remote._at("locks", "toy/a")
        remote.fs.invalidate_cache()
        first = remote.fs.modified(path)
        until = threading.Event()
        for _ in range(60):
            until.wait(0.1)
            remote.fs.invalidate_cache()
            if remote.fs.modified(path) != first:
                break
        assert remote.fs.modified(path) != first


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_line(server):
    with pytest.raises(UserError, match=r"--store s3://none/folder: cannot be written to: ") as caught:
        remote_of("s3://none/folder")
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    import fsspec

    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(UserError, match=r"Install s3fs to access S3 \(for s3: pip install 'ecr-bench\[s3\]'\)"):
        remote_of(f"s3://bucket/{os.getpid()}")


def test_a_worker_that_shares_no_folder_works_on_copies_in_its_cache(tmp_path, remote, monkeypatch):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))
    for name in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # as it was, whatever the worker sets
    first = toy(tmp_path / "log", "first")
    second = toy(tmp_path / "log", "second", first=first)
    store = Store(tmp_path / "out", remote)
    run([first], store)
    with marked(store) as marker:
        far = dataclasses.replace(marker, store=dataclasses.replace(marker.store, root=tmp_path / "not there"))
        assert marker.store_here == marker.store and far.seen and not far.in_folder
        around, job = Surroundings.here(far, ()), Job(second, second.identity, store)
        assert at_work(around, pickle.dumps(job), 1, 0, lambda told: None) == Finished()
        assert far.store_here.root.is_relative_to(tmp_path / "cache")
        assert far.store_here.done(first.id) and far.store_here.done(second.id) and not store.done(second.id)
    assert not far.seen
    assert store.obtain(second.id) and not (tmp_path / "not there").exists()
