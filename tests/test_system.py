"""What only some operating systems have is asked for in one file, or where it is asked first whether it is there."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecr_bench import memory, system
from ecr_bench.teachers.base import usable_cores
from tests.test_architecture import FILES, PACKAGE

POSIX_ONLY = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "readline", "curses"}
ABSENT = {
    "os": {"fork", "forkpty", "sysconf", "sched_getaffinity", "sched_setaffinity", "statvfs", "getuid", "geteuid",
           "killpg",
           "getpgid", "setsid", "mkfifo", "chown", "getloadavg", "nice", "wait4"},
    "signal": {"SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGCHLD", "SIGPIPE", "SIGXFSZ",
               "pthread_sigmask", "setitimer", "alarm", "sigwait", "SIG_BLOCK", "SIG_UNBLOCK", "pthread_kill"},
}  # fmt: skip
"""What Windows, or macOS as well, does not have in a module that it has."""
ASKED = ("sys.platform", "os.name", "hasattr(")
"""What a guard asks."""


def imports_of(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def unguarded(tree: ast.AST) -> list[str]:
    """Uses of what some systems do not have that stand under no question whether it is there."""
    found: list[str] = []

    def visit(node: ast.AST, asked: bool) -> None:
        if isinstance(node, ast.If | ast.IfExp):
            test = ast.unparse(node.test)
            visit(node.test, asked or any(word in test for word in ASKED))
            asked = asked or any(word in test for word in ASKED)
        if not asked and isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            found.extend([ast.unparse(node)] if node.attr in ABSENT.get(owner, ()) else [])
        if not asked and isinstance(node, ast.Call):
            text = ast.unparse(node)
            if text == "ctypes.CDLL(None)" or text.replace('"', "'").endswith("get_context('fork')"):
                found.append(text)
        left = asked
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.If | ast.IfExp) and child is node.test):
                visit(child, left)
            if (
                isinstance(node, ast.FunctionDef)
                and isinstance(child, ast.If)
                and isinstance(child.body[-1], ast.Return)
            ):
                left = left or any(word in ast.unparse(child.test) for word in ASKED)

    visit(tree, False)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_that_some_systems_lack_are_imported_in_one_file(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path != PACKAGE / "system.py":
        assert not imports_of(tree) & POSIX_ONLY
    assert unguarded(tree) == []


@pytest.mark.parametrize(
    ("code", "ok"),
    [
        ("import os\nos.fork()", False),
        ("import signal\nsignal.SIGKILL", False),
        ("import ctypes\nctypes.CDLL(None).x()", False),
        ("multiprocessing.get_context('fork')", False),
        ("if sys.platform == 'linux':\n    os.fork()", True),
        ("x = os.sysconf(1) if hasattr(os, 'sysconf') else 0", True),
        ("if os.name == 'posix' and os.getuid() == 0:\n    pass", True),
        ("if ready:\n    os.fork()", False),
        ("def f():\n    if not hasattr(os, 'fork'):\n        return\n    os.fork()", True),
        ("def f():\n    if ready:\n        return\n    os.fork()", False),
    ],
)
def test_the_check_finds_what_it_looks_for(code: str, ok: bool) -> None:
    assert (unguarded(ast.parse(code)) == []) == ok


def test_here_memory_is_in_bytes() -> None:
    assert 2**24 < system.peak_resident() < system.memory_limit() < 2**50
    block = bytearray(2**26)
    system.return_freed_memory()
    system.reset_peak_resident()
    assert system.peak_resident() > len(block)


def test_what_is_held_beyond_half_of_what_is_needed_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that frees nothing by itself: each piece of work leaves holes of a third of what it needs."""
    held, given_back, peaks = 100.0, [], []

    def trim() -> None:
        nonlocal held
        held = 100.0
        given_back.append(len(peaks))

    monkeypatch.setattr(memory, "resident", lambda: int(held))
    monkeypatch.setattr(memory, "return_freed_memory", trim)
    holes = memory.Holes()
    for needed in (50, 60, 40, 80, 60, 20, 80, 70, 50, 60) * 20:
        held = max(held + needed / 3, 100 + needed)
        peaks.append(held)
        holes.after_piece()
    assert max(peaks) <= 180 * holes.ALLOWED + 80 / 3
    assert 0 < len(given_back) <= len(peaks) / 5


def test_memory_is_not_given_back_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs time: not where what is held only follows what is needed."""
    needs = iter([100, 140, 149, 120, 149])
    monkeypatch.setattr(memory, "resident", lambda: next(needs))
    monkeypatch.setattr(memory, "return_freed_memory", lambda: pytest.fail("given back"))
    holes = memory.Holes()
    for _ in range(5):
        holes.after_piece()


USED = SimpleNamespace(ru_maxrss=123_456)


@pytest.mark.parametrize(("platform", "expected"), [("darwin", 123_456), ("freebsd14", 123_456 * 1024)])
def test_peak_memory_is_in_bytes_where_there_is_no_proc(
    platform: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ru_maxrss`` counts bytes on macOS and KiB elsewhere."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(system.resource, "getrusage", lambda who: USED)
    system.reset_peak_resident()
    system.return_freed_memory()
    assert memory.peak_memory() == system.peak_resident() == expected


def test_peak_memory_on_windows_is_the_peak_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def memory_info(self) -> Any:
            return SimpleNamespace(rss=1, peak_wset=7 * 2**20)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(system, "resource", None)
    monkeypatch.setattr(system.psutil, "Process", Process)
    system.reset_peak_resident()
    system.return_freed_memory()
    assert system.peak_resident() == 7 * 2**20
    assert system.memory_limit() > 2**28


def test_the_limit_of_a_container_and_of_the_process_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "some").write_text(f"{5 * 2**20}\n")
    monkeypatch.setattr(system, "CGROUP_LIMITS", (str(tmp_path / "max"), str(tmp_path / "none")))
    whole = system.memory_limit()
    monkeypatch.setattr(system, "CGROUP_LIMITS", (str(tmp_path / "max"), str(tmp_path / "some")))
    assert system.memory_limit() == 5 * 2**20 < whole
    if system.resource is not None:
        monkeypatch.setattr(system.resource, "getrlimit", lambda which: (3 * 2**20, -1))
        assert system.memory_limit() == 3 * 2**20


def test_cores_are_counted_where_they_cannot_be_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert usable_cores() >= 1
