"""The store: whole stages, damage found and set aside, first writer wins, remains swept and cleaned."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, atomic_path, read_json, remove_parts
from ecr_bench.runner import store as stores
from ecr_bench.runner.clean import bytes_of, free, keep_below, remains, size_of
from ecr_bench.runner.execute import execute
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import DONE, DamagedStageError, Store
from ecr_bench.runner.workplace import BusyError
from tests.helpers.commands import fails
from tests.helpers.forked import fork_workers
from tests.helpers.toy_stages import by_id, started, toy


def written(store, stage_id="toy/a", text="text"):
    def build(folder):
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(text.encode() * 10)
        return {"spec": {}, "result": {"rows": 1}, "ran": {}}

    store.write(stage_id, build)
    return store.path(stage_id)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def add(path):
    (path.parent / "more.bin").write_text("")


DAMAGE = {
    "flip": flip, "truncate": truncate, "delete": lambda path: path.unlink(), "add": add,
    "empty": lambda path: path.write_bytes(b""),
}  # fmt: skip


@pytest.mark.parametrize("name", ["model/weights.bin", DONE])
@pytest.mark.parametrize("how", DAMAGE)
def test_every_damage_is_named(tmp_path, name, how):
    store = Store(tmp_path)
    folder = written(store)
    assert store.damage("toy/a", whole=False) == store.damage("toy/a", whole=True) == ""
    DAMAGE[how](folder / name)
    named = "more.bin" if how == "add" else name.split("/")[-1]
    assert named in store.damage("toy/a", whole=False)
    with pytest.raises(DamagedStageError, match=named):
        store.check("toy/a")


def test_large_files_are_hashed_where_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "LARGE", 8)
    store = Store(tmp_path)
    flip(written(store) / "model" / "weights.bin")
    assert store.damage("toy/a", whole=False) == ""
    assert "weights.bin: was changed after it was written" in store.damage("toy/a", whole=True)


@pytest.mark.parametrize("found", [1, 3, None, "2"])
def test_a_stage_of_another_format_is_refused_by_name(tmp_path, found):
    store = Store(tmp_path)
    path = written(store) / DONE
    path.write_text(json.dumps({**read_json(path), "format": found}))
    with pytest.raises(DamagedStageError, match=r"done\.json: format .*, this version reads 2"):
        store.result("toy/a")


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    fork_workers(monkeypatch)


def run(store, stages, **options):
    said = io.StringIO()
    failures = execute(by_id(*stages), store, Console(file=said, width=300), Local(1), **options)
    assert not failures
    return said.getvalue()


@pytest.mark.slow
def test_a_damaged_stage_is_set_aside_and_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "LARGE", 50)  # large.bin is
    store, log = Store(tmp_path), tmp_path / "log"
    first = toy(log, "first")
    second, third = toy(log, "second", first=first), toy(log, "third", first=first)
    run(store, [first, second])
    large = store.path(first.id) / "large.bin"
    flip(large)
    assert "set aside" not in run(store, [first, second])  # nobody reads it
    said = run(store, [first, second, third])
    assert f"{large}: was changed after it was written; set aside in " in said
    assert started(log) == ["first", "second", "first", "third"]
    assert store.damage(first.id, whole=True) == "" and len(list((tmp_path / "store" / "damaged").glob("*/*"))) == 1
    flip(large)
    assert "set aside" in run(store, [first, second, third], whole=True)


def test_stages_of_an_older_format_are_made_again(tmp_path):
    store, log = Store(tmp_path), tmp_path / "log"
    stage = toy(log, "old")
    run_stage(stage, store, lambda done, total: None)
    path = store.path(stage.id) / DONE
    path.write_text(json.dumps({"result": {"name": "old"}}))
    assert "format 1, this version reads 2; set aside in" in run(store, [stage])
    assert started(log) == ["old", "old"] and store.result(stage.id) == {"name": "old"}


def test_the_first_writer_wins(tmp_path):
    store = Store(tmp_path)
    written(store, text="first")
    written(store, text="later")
    assert (store.path("toy/a") / "model" / "weights.bin").read_text() == "first" * 10


def test_the_first_writer_wins_without_a_lock_too(tmp_path):
    store = Store(tmp_path)

    def build(folder):  # a network file system whose locks do not hold: another has finished meanwhile
        other = Store(tmp_path / "other")
        written(other, text="first")
        store.path("toy/a").parent.mkdir(parents=True)
        other.path("toy/a").rename(store.path("toy/a"))
        return {"result": {}}

    store.write("toy/a", build)
    assert store.result("toy/a") == {"rows": 1} and not list(store.workplaces())


def test_a_stage_that_is_being_made_is_left_alone(tmp_path):
    store = Store(tmp_path)
    place = store.workplace("toy/a")
    with place.lock(), place.making() as folder:
        (folder / "half").write_text("")
        other = Store(tmp_path).workplace("toy/a")
        with pytest.raises(BusyError), other.lock(wait=False):
            pass
        store.sweep()
        other.discard()
        assert (folder / "half").exists()
        with pytest.raises(BusyError):
            store.write("toy/a", lambda folder: {}, wait=False)
    assert not list(store.workplaces())


def test_what_a_dead_owner_kept_is_kept_and_what_was_half_made_is_not(tmp_path):
    store = Store(tmp_path)
    place = store.workplace("toy/a")
    (place.folder / "made").mkdir(parents=True)
    place.kept.mkdir()
    (place.kept / "checkpoint").write_text("")
    store.sweep()
    assert (place.kept / "checkpoint").exists() and not (place.folder / "made").exists()
    written(store)
    assert not list(store.workplaces())


def test_remains_of_killed_writers_are_removed(tmp_path):
    for make in (atomic_dir, atomic_path):
        with make(tmp_path / "whole") as place:
            assert place.name.endswith(".part")
            (tmp_path / place.name.replace("whole", "dead")).mkdir()
        remove_parts(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]
        if make is atomic_dir:
            (tmp_path / "whole").rmdir()


def test_two_writers_of_one_folder_both_succeed(tmp_path):
    with atomic_dir(tmp_path / "a") as one:
        (one / "one").write_text("")
        with atomic_dir(tmp_path / "a") as other:
            (other / "other").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one"]


def used(tmp_path):
    """A store with a stage in use, one that is not, a damaged one, checkpoints, and half of one of an older version."""
    store = Store(tmp_path)
    for name in ("used", "unused"):
        written(store, f"toy/{name}")
    store.use("run", ["toy/used", "toy/next"])
    store.use("gone", ["toy/unused"])
    (tmp_path / "gone").rmdir()
    for path in ("damaged/toy/x.1", "partial/toy/next/kept", "partial/toy/other/kept", "toy/.used.abc"):
        (tmp_path / "store" / path).mkdir(parents=True)
        (tmp_path / "store" / path / "file").write_text("12345678")
    return store


def test_clean_frees_what_no_run_uses(tmp_path, capsys):
    store = used(tmp_path)
    found = {one.what for one in remains(store)}
    assert found == {"stage toy/unused", "damaged toy/x.1", "checkpoints of toy/other", "half of used"}
    main(["clean", "--out", str(tmp_path)])
    assert "stage toy/unused" in capsys.readouterr().out and store.done("toy/unused")
    with store.workplace("toy/other").lock():  # a run that is at work
        main(["clean", "--out", str(tmp_path), "--free"])
    assert {one.what for one in remains(store)} == {"checkpoints of toy/other"}
    assert store.done("toy/used") and not store.path("toy/unused").exists()
    assert (store.workplace("toy/next").kept / "file").exists()
    assert "--caches: says what else to delete" in fails(capsys, "clean", "--caches")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for odd in (tmp_path / "file", tmp_path / "file" / "runs", tmp_path / "loop"):
        assert "is not a folder" in fails(capsys, "clean", "--out", str(odd))


def test_no_stage_is_freed_where_a_run_of_an_older_version_may_use_it(tmp_path, capsys):
    store = used(tmp_path)
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "board.json").write_text("{}")
    main(["clean", "--out", str(tmp_path), "--free"])
    assert "older of an older version may use them" in capsys.readouterr().out
    assert store.done("toy/unused") and not (tmp_path / "store" / "damaged" / "toy" / "x.1").exists()


def test_the_store_stays_below_a_size(tmp_path):
    store = used(tmp_path)
    held = size_of(tmp_path / "store")
    keep_below(store, held)
    assert store.done("toy/unused")
    keep_below(store, held - 1)
    assert not store.done("toy/unused") and store.done("toy/used")
    with pytest.raises(UserError, match=r"more than --max-disk allows .*, all used by runs"):
        keep_below(store, 10)
    with pytest.raises(UserError, match="--max-disk"):
        run(store, [toy(tmp_path / "log", "one")], most=10)


@pytest.mark.parametrize(("text", "size"), [("20G", 20 * 10**9), ("1.5 MB", 1500000), ("7", 7), ("2t", 2 * 10**12)])
def test_sizes(text, size):
    assert bytes_of(text, "--max-disk") == size


@pytest.mark.parametrize("text", ["", "0", "-1G", "G", "1e3", "20 GiB", "nan"])
def test_what_is_no_size(text):
    with pytest.raises(UserError, match="--max-disk"):
        bytes_of(text, "--max-disk")


def test_a_freed_stage_is_one_no_more_at_once(tmp_path):
    store = Store(tmp_path)
    written(store)
    assert free(store, remains(store)) > 0 and not store.done("toy/a")


def test_files_are_on_disk_before_a_folder_takes_its_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda handle: order.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    folder = written(Store(tmp_path))
    made = [path for path in order if "/partial/" in path]
    assert {Path(path).name for path in made} >= {"weights.bin", "model", "made", DONE}
    assert order[-1] == str(folder.parent)
