"""Wherever and however it is started: no home, another language of the system, odd paths, little memory."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecr_bench import cli, system
from ecr_bench.errors import REFUSED, UserError, of_the_system
from ecr_bench.io import cache_dir
from ecr_bench.quiet import lossless_streams
from tests.helpers.outside import ROOT
from tests.test_places import SMALL, corpus

EACH = """
import json, sys
from ecr_bench.cli import main
for arguments in json.loads(sys.argv[1]):
    main(arguments)
"""


def started(
    folder: Path, commands: list[list[str]], code: str = EACH, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """The commands one after another in a process that knows next to nothing of its surroundings."""
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
        "LC_ALL": "C", "PYTHONIOENCODING": "ascii",
        "ECR_BENCH_CACHE": str(folder / "the cäche"),
    }  # fmt: skip
    command = [sys.executable, "-c", code, json.dumps(commands)]
    return subprocess.run(command, capture_output=True, cwd=folder, env=environment, timeout=560, check=False, **more)


@pytest.mark.slow
def test_no_home_no_language_odd_paths_and_another_folder(tmp_path: Path) -> None:
    folder = tmp_path / "here and there"
    folder.mkdir()
    corpus(folder / "Sätze 灯" / "my rows.jsonl")
    named = {"name": "files", "options": {"path": "Sätze 灯/my rows.jsonl"}}
    (folder / "ex periment.yaml").write_text(json.dumps({**SMALL, "corpus": named}), encoding="utf-8")
    out, bundle = ["--out", "Läufe 灯"], "das Bündel"
    commands = [
        ["run", "ex periment.yaml", *out, "--workers", "1"], ["board", "small", *out], ["verify", "small", *out],
        ["report", "small", *out], ["board", "small", *out, "--format", "csv", "--to", "Ausgabe für dich.csv"],
        ["export", "ecr-1x-s0", bundle, "--run", "small", *out], ["generate", bundle, "en lamp", "--tokens", "2"],
    ]  # fmt: skip
    done = started(folder, commands)
    assert done.returncode == 0, done.stderr.decode()[-1500:]
    assert b"Traceback" not in done.stderr and done.stdout.isascii()
    assert (folder / "Läufe 灯" / "small" / "run.json").is_file() and (folder / bundle / "bundle.json").is_file()
    assert (folder / "Ausgabe für dich.csv").read_text(encoding="utf-8").startswith("run,arm")
    assert (folder / "the cäche" / "embeddings").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(system.resource is None, reason="no limits here")
@pytest.mark.parametrize("mebibytes", [150, 700, 1500])
def test_little_address_space_is_one_line(mebibytes: int, tmp_path: Path) -> None:
    """Wherever it ends: nothing half written, no traceback, or it suffices."""
    corpus(tmp_path / "rows.jsonl")
    named = {"name": "files", "options": {"path": "rows.jsonl"}}
    (tmp_path / "a.yaml").write_text(json.dumps({**SMALL, "corpus": named}))
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({mebibytes * 2**20},) * 2)\n"
    done = started(tmp_path, [["run", "a.yaml", "--workers", "1"]], limit + EACH)
    said = done.stderr.decode()
    # a library that finds no memory while it is loaded ends the process itself
    ended = done.returncode in (1, 2, 3) or (done.returncode == -signal.SIGABRT and "bad_alloc" in said)
    assert done.returncode == 0 or (ended and "Traceback" not in said), said[-1500:]
    assert done.returncode == 0 or not (tmp_path / "runs" / "small" / "run.json").exists()


def test_a_user_without_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    for name in ("ECR_BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="ECR_BENCH_CACHE"):
        cache_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/ecr-bench")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_terminal_will_do(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    lossless_streams()
    print("−3.2 ± 灯 \udcff")
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding).strip()  # type: ignore[attr-defined]


ERRORS = [OSError(number, os.strerror(number), "some/file") for number in sorted(REFUSED)]
ERRORS += [
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ImportError("x.so: failed to map segment from y"),
]  # type: ignore[list-item]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_the_system_refuses_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "doctor", fail)
    fail.__doc__ = "Fail."
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor"])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and said.startswith("ecr-bench: error: ")
    assert ("memory is full" in said) != ("some/file" in said)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "x"), KeyError("x"), RuntimeError("x"), OSError("x")], ids=repr
)
def test_a_fault_of_the_program_is_not_hidden(error: Exception) -> None:
    assert of_the_system(error) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["board", "n" * 300],
        ["verify", "a", "--out", "n" * 300],
        ["compare", "n" * 300 + ":a", "b:c"],
        ["score", "n" * 300, "all"],
        ["generate", "n" * 300, "x"],
        ["eval", "n" * 300, "xcopa"],
        ["export", "a", "b", "--out", "n" * 300],
        ["report", "/dev/null"],
        ["claims", "quick", "--claims", "/dev/zero"],
        ["run", "/dev/zero.yaml"],
        ["tensorboard", "--port", "65536"],
        ["data", "files", "--set", "path=/dev/zero"],
        ["data", "files", "--set", "path=" + "n" * 300 + ".csv"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_odd_places_on_the_command_line(arguments: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and said.startswith("ecr-bench: error: "), said
    assert not list(tmp_path.iterdir())


def test_a_yaml_that_is_too_large_is_one_line(tmp_path: Path) -> None:
    from ecr_bench.config import load

    path = tmp_path / "a.yaml"
    path.write_bytes(b"extends: tiny\nname: mine\n# " + b"x" * 2**21)
    with pytest.raises(UserError, match="no experiment needs"):
        load(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    from ecr_bench.config import load

    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(UserError, match="a device or a pipe"):
        load(str(tmp_path / "a.yaml"))
