"""A local cache of the Hugging Face hub as its client lays it out, with repositories made here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

COMMITS = tuple(digit * 40 for digit in "abcdef")


class FakeHub:
    """``cache``: folder in the place of ``HF_HUB_CACHE``."""

    def __init__(self, cache: Path):
        self.cache = cache

    def folder(self, name: str, kind: str = "model") -> Path:
        return self.cache / "--".join([f"{kind}s", *name.split("/")])

    def commit(
        self, name: str, files: Path, commit: str = COMMITS[0], branch: str = "main", kind: str = "model"
    ) -> str:
        """Put the folder ``files`` there as ``commit`` of ``name``, with ``branch`` at it."""
        shutil.copytree(files, self.folder(name, kind) / "snapshots" / commit)
        self.move(name, commit, branch, kind)
        return commit

    def move(self, name: str, commit: str, branch: str = "main", kind: str = "model") -> None:
        """Let ``branch`` be at ``commit``."""
        ref = self.folder(name, kind) / "refs" / branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)


def fake_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """An empty one that the libraries of this process read."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return FakeHub(cache)
