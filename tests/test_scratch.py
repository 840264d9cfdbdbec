"""What is there for the time being is gone afterwards: at once, or by who comes next where its owner was killed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile

import pytest

from ecr_bench.io import PART, DiskError, atomic_dir, write_text
from ecr_bench.scratch import PREFIX, scratch, sweep
from tests.helpers.outside import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from ecr_bench.io import atomic_dir, atomic_path
from ecr_bench.scratch import scratch
with scratch() as folder, atomic_path(Path("file.json")) as part, atomic_dir(Path("folder")) as place:
    for path in (folder / "model", part, place / "model"):
        path.write_text("half")
    print(folder, flush=True)
    {how}
"""
DIES, WAITS = "os.kill(os.getpid(), signal.SIGKILL)", "sys.stdin.read()"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files go, of this process and of those that it starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def started(tmp_path, how):
    """A process in the middle of writing; it has said so."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(how=how)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline().strip()
    return process


def left(tmp_path):
    return [path for pattern in (f".*{PART}", f"tmp/{PREFIX}*") for path in tmp_path.glob(pattern)]


def write_again(tmp_path):
    """What a later run does: the same files, and the folders of the dead."""
    for path in left(tmp_path):
        os.utime(path, (1e9, 1e9))
    write_text(tmp_path / "file.json", "whole")
    with atomic_dir(tmp_path / "folder"):
        pass
    sweep()


@pytest.mark.skipif(sys.platform == "win32", reason="no folder can be owned there")
def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path, temporary):
    living = started(tmp_path, WAITS)
    before = left(tmp_path)
    killed = started(tmp_path, DIES)
    killed.communicate()
    assert len(before) == 3 and len(left(tmp_path)) == 6
    write_again(tmp_path)
    assert sorted(left(tmp_path)) == sorted(before)
    living.communicate("")
    assert living.returncode == 0 and not left(tmp_path)


def test_a_folder_for_the_time_being_is_private_and_gone_afterwards(temporary):
    with scratch() as one, scratch() as other:
        assert one != other and not list(one.iterdir()) and one.parent.stat().st_mode & 0o077 in (0, 0o077)
        (one / "file").touch()
    assert not list(temporary.iterdir())
    tempfile.tempdir = str(temporary / "absent")
    with pytest.raises(DiskError, match="cannot make a folder for temporary files"), scratch():
        pass
    sweep()


def test_folders_of_others_are_let_be(temporary):
    """Of another version, and one that is just being made."""
    for name in ("ecr-bench-old", f"{PREFIX}new"):
        (temporary / name).mkdir()
    sweep()
    assert len(list(temporary.iterdir())) == 2


SWEPT = {"io.py", "scratch.py", "publish.py"}
"""What makes temporary folders and sees that they go."""


def test_temporary_folders_are_made_where_they_are_swept():
    made = {"mkdtemp", "TemporaryDirectory", "mkstemp", "NamedTemporaryFile"}
    for path in sorted((ROOT / "ecr_bench").rglob("*.py")):
        found = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert path.name in SWEPT or not found & made, path
