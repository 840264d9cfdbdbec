"""Workers of the local engine that are there at once."""

from __future__ import annotations

import pytest

from ecr_bench.runner import pool


def fork_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork workers, where a run starts fresh ones. A forked one has its parent's end of the pipe as well, so that it
    never sees it close: nobody waits for that."""
    monkeypatch.setattr(pool, "START", "fork")
    monkeypatch.setattr(pool, "PATIENCE", 0.1)
