"""What a claims file may say and what ``claims.json`` holds.

Differences are a minus b: accuracy on the 0..1 scale, costs as a share of b's cost, measures in their own unit.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ecr_bench.arm import NamedArm
from ecr_bench.results.schema import Group, Word
from ecr_bench.results.timings import TIMES
from ecr_bench.section import Section

ACCURACY = "accuracy"
COSTS = (*TIMES, "peak_memory", "scoring_memory", "parameters", "bytes")
"""Costs that a claim may compare: times from timings.json, the rest from cells.json; parameters and bytes include
projection and anchors."""
EXACT_COSTS = ("parameters", "bytes")
"""The same in every run, so one seed is enough and there is no interval to draw."""


class ArmReference(Section):
    """An arm by the part it plays, so that a claim holds for any run: ``{role: main, at: small}``; or, as plain text,
    as the run prints it: ``ecr-1x``."""

    name: str | None = None
    """The arm's printed form; everything else is then empty."""
    role: Literal["main", "plain"] | None = None
    """``main``: ECR; ``plain``: fine-tuning without control tokens."""
    method: str | None = None
    """In place of a role: a method with its modifiers, such as ``finetune+distill`` or ``ecr+dropout``."""
    at: Literal["small", "large"] | None = None
    """``small``: the smallest size that ECR was run at; ``large``: the plain one nearest three times that many
    parameters."""
    size: str | None = None
    """In place of ``at``: a size by its name."""
    settings: dict[str, Any] = {}
    """Dotted keys in which the arm differs from its experiment."""

    @model_validator(mode="before")
    @classmethod
    def _plain_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of_each(self) -> ArmReference:
        others = (self.role, self.method, self.at, self.size)
        if self.name is not None:
            if self.settings or any(part is not None for part in others):
                raise ValueError("'name' stands alone")
            return self
        if (self.role is None) == (self.method is None):
            raise ValueError("give either 'role' (main, plain) or 'method'")
        if (self.at is None) == (self.size is None):
            raise ValueError("give either 'at' (small, large) or 'size'")
        return self

    def __str__(self) -> str:
        if self.name is not None:
            return self.name
        inside = ",".join(f"{key}={value}" for key, value in self.settings.items())
        where = f"the {self.at} size" if self.at else self.size
        return f"{self.role or self.method} at {where}" + (f" with {inside}" if inside else "")


class Claim(Section):
    """A testable sentence: which arms, which number, in which direction, how much matters."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    says: str = Field(min_length=1)
    """The claim in plain words."""
    a: ArmReference
    b: ArmReference
    metric: str
    """``accuracy``, a cost of cells.json or a metric of measures.json."""
    direction: Literal["higher", "lower"]
    """Which way ``a`` is better."""
    test: Literal["superiority", "non-inferiority"] = "superiority"
    """``superiority``: a is better. ``non-inferiority``: a is worse by less than ``smallest_effect``."""
    smallest_effect: float = Field(gt=0)
    """Smallest effect of interest, in the unit of the difference; for non-inferiority the margin."""
    group: Group = "unseen"
    """Accuracy only: languages without or with labelled training rows."""
    task: str = "all"
    """Accuracy only: ``all``, ``coarse``, ``fine`` or a single task."""
    precision: str = "fp32"
    precision_b: str | None = None
    """Where b is taken in another precision than a."""
    lang: str = ""
    """Measures only: a language or pair; empty for the mean over all."""
    layer: int | None = None
    """Measures only: the hidden state; may be left out where a run measured one."""
    pool_settings: bool = False
    """Measures only: mean over the settings (learning rates, say) that both arms were run with, within each seed."""
    needs_b_above: float | None = None
    """Tested only where b's mean exceeds this: nobody is more stable than an arm that never spiked."""
    requires: dict[str, Any] = {}
    """Tested only between arms run with these settings, by dotted key: an arm's own, else its experiment's."""
    controls: tuple[str, ...] | None = None
    """Control methods at the size of the arm ahead that it must beat as well for a gain to be attributed; null: every
    one of the run. Empty for a cost that none applies to. An accuracy of ECR is always judged by all, and another gain
    of it by the anchor controls at least: one that is not named counts as not run."""

    @property
    def ahead(self) -> Literal["a", "b"]:
        """Which arm is better if the claim holds: a, but for an accuracy that is to be lower."""
        return "b" if self.metric == ACCURACY and self.direction == "lower" else "a"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.metric == ACCURACY or self.direction == "higher" else -1

    @model_validator(mode="after")
    def _fits(self) -> Claim:
        if self.a == self.b and (self.precision_b or self.precision) == self.precision:
            raise ValueError(f"a and b are the same arm: {self.a}")
        if self.pool_settings and self.metric in (ACCURACY, *COSTS):
            raise ValueError(f"pool_settings: is for measures, not for {self.metric}")
        return self


class ClaimSet(Section):
    claims: tuple[Claim, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> ClaimSet:
        names = [claim.id for claim in self.claims]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"claims: id {twice[0]!r} is there twice")
        return self


class Evidence(Section):
    """A row that the verdict rests on: its file in the run's folder and the keys that find it there."""

    file: Literal["board.json", "cells.json", "measures.json", "timings.json"]
    row: dict[str, str | int]


class Finding(Section):
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


class ControlFinding(Section):
    """The arm ahead minus a control; ``beaten``: the 95 % interval lies on its side of 0."""

    arm: NamedArm
    precision: str
    difference: float
    low: float
    high: float
    beaten: bool


class ClaimResult(Section):
    """A claim judged on a run."""

    claim: Claim
    a: NamedArm | None
    """The arms that the claim's names stand for in this run; null where it has none."""
    b: NamedArm | None
    verdict: Word
    sentence: str
    """Verdict and reason in plain words."""
    finding: Finding | None
    """None where the claim is not tested."""
    p_holm: float | None
    """``finding.p`` after Holm's correction: that of the board where the two arms meet there, else over the claims of
    the file that are not on the board."""
    on_board: bool = False
    """The two arms meet on the board, whose p this is."""
    p_smaller_holm: float | None
    """The same for the test that the effect is below the smallest effect of interest: it is what refutes."""
    controls: tuple[ControlFinding, ...]
    not_beaten: tuple[str, ...]
    """Controls that the arm ahead is not shown to beat, without those that are better."""
    better: tuple[str, ...]
    """Controls that are shown to be better than it."""
    untested_controls: tuple[str, ...]
    """Controls it must beat that were not run, or not with two seeds where a measure needs them."""
    evidence: tuple[Evidence, ...]


class ClaimsReport(Section):
    """``claims.json``."""

    run: str
    source: str
    """The claims file, and its fingerprint."""
    fingerprint: str
    tested: int
    corrected: int
    """Of those, the ones that are not on the board: Holm's correction ran over them."""
    results: tuple[ClaimResult, ...]
