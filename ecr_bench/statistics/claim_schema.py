"""What a claims file may say and what ``claims.json`` holds.

Differences are a minus b: accuracy on the 0..1 scale, costs as a share of b's cost, measures in their own unit.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ecr_bench.statistics.roles import CONTROLS

ACCURACY = "accuracy"
COSTS = ("train_seconds", "ms_per_item", "peak_memory", "scoring_memory", "parameters", "bytes")
"""Numbers of cells.json that a claim may compare; parameters and bytes include projection and anchors."""
EXACT_COSTS = ("parameters", "bytes")
"""The same in every run, so one seed is enough and there is no interval to draw."""

Verdict = Literal[
    "supported",
    "refuted",
    "inconclusive",
    "not attributable to anchors",
    "not attributable to the language model",
    "not tested",
]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def _arm(value: str) -> str:
    method, separator, size = value.rpartition("-")
    if not (method and separator and size):
        raise ValueError("an arm is METHOD-SIZE, for example ecr-1x")
    return value


Arm = Annotated[str, AfterValidator(_arm)]


class Claim(Strict):
    """A testable sentence: which arms, which number, in which direction, how much matters."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    says: str = Field(min_length=1)
    """The claim in plain words."""
    a: Arm
    b: Arm
    metric: str
    """``accuracy``, a cost of cells.json or a metric of measures.json."""
    direction: Literal["higher", "lower"]
    """Which way ``a`` is better."""
    test: Literal["superiority", "non-inferiority"] = "superiority"
    """``superiority``: a is better. ``non-inferiority``: a is worse by less than ``smallest_effect``."""
    smallest_effect: float = Field(gt=0)
    """Smallest effect of interest, in the unit of the difference; for non-inferiority the margin."""
    split: Literal["unseen", "seen"] = "unseen"
    """Accuracy only."""
    task: str = "all"
    """Accuracy only: ``all``, ``coarse``, ``fine`` or a task family."""
    precision: str = "fp32"
    precision_b: str | None = None
    """Where b is taken in another precision than a."""
    lang: str = ""
    """Measures only: a language or pair; empty for the mean over all."""
    layer: int | None = None
    """Measures only: the hidden state; may be left out where a run measured one."""
    pool_settings: bool = False
    """Measures only: mean over the cell groups (learning rates, say) that both arms were run with, within each seed."""
    needs_b_above: float | None = None
    """Tested only where b's mean exceeds this: nobody is more stable than an arm that never spiked."""
    requires: dict[str, Any] = {}
    """Tested only where the experiment has these settings, by dotted key."""
    controls: tuple[str, ...] = CONTROLS
    """Methods at a's size that must be beaten as well for a gain to be attributed; empty where none applies."""

    @model_validator(mode="after")
    def _fits(self) -> Claim:
        if self.a == self.b and (self.precision_b or self.precision) == self.precision:
            raise ValueError(f"a and b are the same arm: {self.a}")
        if odd := sorted(set(self.controls) - set(CONTROLS)):
            raise ValueError(f"controls: {odd[0]!r} is no control; allowed are {', '.join(CONTROLS)}")
        return self


class ClaimSet(Strict):
    claims: tuple[Claim, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> ClaimSet:
        names = [claim.id for claim in self.claims]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"claims: id {twice[0]!r} is there twice")
        return self


class Evidence(Strict):
    """A row that the verdict rests on: its file in the run's folder and the keys that find it there."""

    file: Literal["board.json", "cells.json", "measures.json"]
    row: dict[str, str | int]


class Finding(Strict):
    """A paired difference a minus b with its 95 % interval."""

    difference: float
    low: float
    high: float
    mean_a: float
    mean_b: float
    p: float
    """Two-sided, of no difference (non-inferiority: of a difference at the margin)."""
    mdd: float
    """Minimum detectable difference: supported with 80 % power at Holm's first step over the tested claims."""
    n_seeds: int
    covers: str
    """What the interval covers: ``items and seeds``, ``items``, ``seeds``, or ``nothing`` for exact counts."""
    n_items: int = 0
    """Items behind an accuracy; texts, pairs or steps behind a measure."""
    n_clusters: int = 0


class ControlFinding(Strict):
    """a minus a control arm; ``beaten``: the 95 % interval lies on a's side of 0."""

    method: str
    precision: str
    difference: float
    low: float
    high: float
    beaten: bool


class ClaimResult(Strict):
    claim: Claim
    verdict: Verdict
    sentence: str
    """Verdict and reason in plain words."""
    finding: Finding | None
    """None where the claim is not tested."""
    p_holm: float | None
    """``finding.p`` after Holm's correction over all tested claims of the file."""
    p_smaller_holm: float | None
    """The same for the test that the effect is below the smallest effect of interest: it is what refutes."""
    controls: tuple[ControlFinding, ...]
    as_good: tuple[str, ...]
    """Controls that a is not shown to beat."""
    untested_controls: tuple[str, ...]
    """Controls the claim names that were not run, or not with two seeds where a measure needs them."""
    evidence: tuple[Evidence, ...]


class ClaimsReport(Strict):
    """``claims.json``."""

    run: str
    source: str
    """The claims file, and its fingerprint."""
    fingerprint: str
    tested: int
    """Claims that Holm's correction ran over."""
    results: tuple[ClaimResult, ...]
