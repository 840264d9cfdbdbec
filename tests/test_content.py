"""What is in a folder: whatever somebody who reads it finds there, and nothing else."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecr_bench import config
from ecr_bench.content import MISSING, content_of
from ecr_bench.errors import UserError
from ecr_bench.runner.plan import make_plan

LONG = "a" * 300

EDITS: dict[str, Callable[[Path], object]] = {
    "a file": lambda root: (root / "data/a.jsonl").write_text("other"),
    "a file in a folder": lambda root: (root / "data/de/a.jsonl").write_text("other"),
    "a file behind a link": lambda root: (root / "elsewhere/b.jsonl").write_text("other"),
    "a file in a linked folder": lambda root: (root / "elsewhere/fr/a.jsonl").write_text("other"),
    "a file in a link of a linked folder": lambda root: (root / "far/c.jsonl").write_text("other"),
    "a new file in a linked folder": lambda root: (root / "elsewhere/fr/b.jsonl").write_text("new"),
    "a link that is gone": lambda root: (root / "data/fr").unlink(),
    "a folder named anew": lambda root: (root / "data/de").rename(root / "data/nl"),
}
NO_EDITS: dict[str, Callable[[Path], object]] = {
    "a hidden file": lambda root: (root / "data/.b.jsonl").write_text("new"),
    "a file beside it": lambda root: (root / "elsewhere/z.jsonl").write_text("new"),
    "another place": lambda root: (root / "data").rename(root / "moved"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``data/`` with a file, a folder, a linked file, a linked folder with a link in it, and a link to itself."""
    for place in ("data/a.jsonl", "data/de/a.jsonl", "elsewhere/b.jsonl", "elsewhere/fr/a.jsonl", "far/c.jsonl"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    (tmp_path / "data/b.jsonl").symlink_to(tmp_path / "elsewhere/b.jsonl")
    (tmp_path / "data/fr").symlink_to(tmp_path / "elsewhere/fr")
    (tmp_path / "elsewhere/fr/far").symlink_to(tmp_path / "far")
    (tmp_path / "data/self").symlink_to(tmp_path / "data")
    return tmp_path


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_another_content(edit: str, root: Path) -> None:
    before = content_of(root / "data")
    EDITS[edit](root)
    assert content_of(root / "data") != before


@pytest.mark.parametrize("edit", NO_EDITS)
def test_what_is_not_in_it_does_not_count(edit: str, root: Path) -> None:
    before = content_of(root / "data")
    NO_EDITS[edit](root)
    assert content_of(next(path for path in (root / "data", root / "moved") if path.exists())) == before


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_a_file_that_is_there_and_cannot_be_read_is_one_line() -> None:
    said = r"^/proc/self/mem: cannot be read: "
    with pytest.raises(UserError, match=said):
        content_of(Path("/proc/self/mem"))
    options = {"corpus": {"name": "hub", "options": {"path": "/proc/self/mem"}}}
    with pytest.raises(UserError, match=said):
        make_plan(config.load("tiny").with_overrides(options))


NOBODY = 65534
LOCKED: dict[str, tuple[str, str, int, str]] = {
    "a folder": ("data", "data", 0, "data"),
    "a folder in it": ("data", "data/de", 0, "data/de"),
    "a linked folder": ("data", "elsewhere", 0, "data/fr"),
    "a folder whose files are named only": ("data", "data/de", 0o444, "data/de/a.jsonl"),
    "a folder whose folders are named only": ("far", "far", 0o444, "far/ru"),
    "a path in a folder": ("data/de/a.jsonl", "data/de", 0, "data/de/a.jsonl"),
    "a path that may be nothing": ("data/de/none", "data/de", 0, "data/de/none"),
}
"""What is asked for, what is locked, the mode it has then, what the message names."""


@contextmanager
def bound_by_permissions(folder: Path) -> Iterator[None]:
    """Inside, the process is nobody's: modes of what is in ``folder`` bind root as well."""
    if os.geteuid():
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError:
        pytest.skip("needs the right to become another user")
    try:
        if not os.access(folder.parent, os.X_OK, effective_ids=True):
            pytest.skip("needs a temporary folder that is open to all")
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """As ``root``, where every user may look: those of pytest are for one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for place in ("data/a.jsonl", "data/de/a.jsonl", "data/.git/a", "elsewhere/b.jsonl", "far/ru/a.jsonl"):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text(place)
        (root / "data/fr").symlink_to(root / "elsewhere")
        for made in (root, *root.rglob("*")):
            made.chmod(0o755)
        yield root
        for place in ("data", "data/de", "data/.git", "elsewhere", "far"):
            (root / place).chmod(0o755)


@pytest.mark.parametrize("case", LOCKED)
def test_a_folder_that_cannot_be_read_is_one_line_and_not_an_empty_one(case: str, open_root: Path) -> None:
    asked, locked, mode, named = LOCKED[case]
    (open_root / locked).chmod(mode)
    said = f"^{re.escape(str(open_root / named))}: cannot be read: permission denied$"
    with bound_by_permissions(open_root), pytest.raises(UserError, match=said):
        content_of(open_root / asked)


def test_a_hidden_folder_is_not_looked_into(open_root: Path) -> None:
    before = content_of(open_root / "data")
    (open_root / "data/.git").chmod(0)
    with bound_by_permissions(open_root):
        assert content_of(open_root / "data") == before


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path))}/x+: cannot be read: file name too long$"):
        content_of(tmp_path / ("x" * 300))


def test_where_the_system_fails_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the test: a disk that fails in the middle of a folder."""
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("/de"):
            raise OSError(errno.EIO, "Input/output error", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=f"^{re.escape(str(root))}/data/de: cannot be read: input/output error$"):
        content_of(root / "data")


def test_a_path_that_leads_nowhere_is_missing(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    (root / "gone").symlink_to(root / "nothing")
    for path in (root / "none", root / "loop", root / "gone", root / "data/a.jsonl/b", root / "a\0b"):
        assert content_of(path) == MISSING


@pytest.mark.parametrize(
    "teacher", [{"name": "hf", "options": {"model": LONG}}, {"name": "checkpoint", "options": {"path": LONG}}]
)
def test_a_model_whose_name_is_too_long_is_one_line(teacher: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"a{80}.*: (cannot be read|no path of a file): file name too long$"):
        make_plan(config.load("tiny").with_overrides({"teacher": {**teacher, "rows": 300}}))
