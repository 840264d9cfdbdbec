"""What is in a folder: whatever somebody who reads it finds there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ecr_bench import config
from ecr_bench.content import content_of
from ecr_bench.errors import UserError
from ecr_bench.runner.plan import make_plan

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
