"""What ``leaderboard.json`` holds."""

from __future__ import annotations

from ecr_bench.results.schema import Record


class Ranking(Record):
    """One arm of one corpus at one precision, on languages without labels. Accuracies on the 0..1 scale."""

    corpus: str
    """Name of its board: the folder beside this file."""
    precision: str
    arm: str
    size: str
    role: str
    rank: str
    """Place among arms that compete; ``1=`` where it cannot be told from the best; empty for controls."""
    accuracy: float
    """Mean over tasks of the mean over languages."""
    ci: tuple[float, float]
    """95 % interval."""
    coarse: float | None
    fine: float | None
    seeds: int
    items: int
    bytes: int | None
    """Model, projection and anchors as stored."""
