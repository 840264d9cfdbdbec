"""The main arm against its controls: what a gain of it is due to."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecr_bench.arm import Arm
from ecr_bench.results.roles import Attribution, Cast, attribute
from ecr_bench.statistics.interval import Estimate
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import Panel


@dataclass(frozen=True)
class ControlTest:
    """An arm minus a control of its size. Not corrected for multiplicity, since every control must be beaten
    (intersection-union test, Berger 1982, Technometrics 24)."""

    control: Arm
    precision: str
    """Of the control: that of the arm, or the reference where it was not scored there (a probe is never quantised)."""
    estimate: Estimate


@dataclass(frozen=True)
class ControlTests:
    """Of one group; each is worked out once."""

    panel: Panel
    cast: Cast
    reference: str
    known: dict[tuple[str, str, str], tuple[ControlTest, ...]] = field(default_factory=dict)

    def of(self, arm: Arm, precision: str, task: str) -> tuple[ControlTest, ...]:
        key = (str(arm), precision, task)
        if key not in self.known:
            self.known[key] = tuple(
                ControlTest(control, at, compare(self.panel, str(arm), str(control), precision, at, task))
                for control in self.cast.controls(arm.size)
                for at in [self._precision_of(control, precision)]
                if at
            )
        return self.known[key]

    def _precision_of(self, control: Arm, precision: str) -> str | None:
        return next((at for at in (precision, self.reference) if self.panel.has(str(control), at)), None)

    def attribution(self, arm: Arm, precision: str, task: str) -> Attribution:
        return attribute(
            {test.control: (test.estimate.low, test.estimate.high) for test in self.of(arm, precision, task)}
        )
