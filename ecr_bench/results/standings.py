"""What each arm has for a verdict to rest on it: its seeds, and whether it is above chance."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecr_bench.arm import Arm
from ecr_bench.results.judgement import Standing
from ecr_bench.statistics.paired import accuracy
from ecr_bench.statistics.panel import Panel


@dataclass(frozen=True)
class Standings:
    """Of the arms of one group; each is worked out once."""

    panel: Panel
    known: dict[tuple[str, str, str], Standing] = field(default_factory=dict)

    def of(self, arm: Arm, precision: str, task: str) -> Standing:
        key = (str(arm), precision, task)
        if key not in self.known:
            found = accuracy(self.panel, str(arm), precision, task)
            reaches = found.low <= self.panel.chance(task)
            self.known[key] = Standing(arm, found.n_seeds, reaches)
        return self.known[key]
