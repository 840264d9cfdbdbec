"""What ``board.json`` holds. Accuracies and differences are on the 0..1 scale; intervals are 95 %."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ecr_bench.arm import NamedArm

Group = Literal["unseen", "seen"]
"""Languages without and with labelled training rows."""


def _finite(value: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Finite = Annotated[float | None, BeforeValidator(_finite)]
Count = Annotated[int | None, BeforeValidator(_finite)]


Scoring = Literal["acc_bytes"]
"""A rule that chooses an option, by lm-eval's name of the accuracy that it gives."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


Word = Literal[
    "supported",
    "supported, not attributed",
    "refuted",
    "inconclusive",
    "not attributable to anchors",
    "not attributable to the language model",
    "not tested",
]
"""The verdict on 'a exceeds b'. ``supported, not attributed``: a is better, but controls that could explain it were not
run. ``not attributable to ...``: a is better, but a control is not shown to be worse than a."""

ABOVE_FLOOR = " above floor"
"""Ends the name of a mean without the tasks at the floor."""


class Attribution(Record):
    """What the controls of a comparison show, as names of methods."""

    anchors: tuple[str, ...]
    """Anchor controls that the main arm is not shown to beat: the gain is not attributable to anchors."""
    model: tuple[str, ...]
    """Model controls that it is not shown to beat: the gain is not attributable to the language model."""
    better: tuple[str, ...]
    """Of both, those that are shown to be better."""
    beaten: tuple[str, ...]
    untested: tuple[str, ...]
    """Required controls that were not run."""


class BoardRow(Record):
    """Accuracy of one arm at one precision on one task in one group of languages, mean over its seeds."""

    arm: NamedArm
    precision: str
    group: Group
    """``unseen``: languages without labelled training rows (the headline); ``seen``: those with."""
    task: str
    """``coarse``, ``fine``, a single task, or ``all``: mean over tasks of the mean over languages."""
    mean: float
    ci: tuple[float, float]
    """95 % interval over clusters of items and seeds (statistics/paired.py)."""
    n_items: int
    n_seeds: int
    n_clusters: int
    covers: str
    """``items and seeds``, or ``items`` where the arm has one seed."""
    chance: float
    """Macro mean of 1 / number of options."""
    above_chance: float
    """(mean - chance) / (1 - chance)."""
    tied_with_leader: bool | None
    """Cannot be told from the best arm of this precision, group and task (Holm); null for the upper bound (oracle)."""
    extra_tokens_per_item: float
    """Control tokens in the prompt, mean over items."""
    parameters: Count
    """Parameters of the language model, control-token rows included."""
    side_parameters: Count
    """Parameters of projection and anchors, which ECR needs at inference beside the model."""
    bytes: Count
    """Model weights as stored at this precision."""
    side_bytes: Count
    """Projection and anchors as stored."""
    ms_per_item: Finite
    """Scoring time per item, mean over seeds; machine-dependent."""


class LanguageRow(Record):
    """Accuracy of one arm in one language (of the text) at the highest precision run, mean over its seeds."""

    arm: NamedArm
    precision: str
    group: Group
    task: str
    """A single task."""
    lang: str
    mean: float
    n_items: int


class ScoringRow(Record):
    """Accuracy of one arm where an option is chosen otherwise than by its whole log-likelihood."""

    arm: NamedArm
    precision: str
    """The highest one run."""
    group: Group
    task: str
    """``coarse``, ``fine`` or ``all``."""
    metric: Scoring
    """lm-eval's name: ``acc_bytes`` by log-likelihood per UTF-8 byte of the option."""
    mean: float
    ci: tuple[float, float]
    """As in a row."""


class Contrast(Record):
    """A paired difference between two arms on the same items."""

    name: str
    """``a - b``; with precisions where they differ."""
    a: NamedArm
    b: NamedArm
    precision: str
    """Precision of ``a``."""
    precision_b: str
    """Precision of ``b``."""
    group: Group
    task: str
    family: str
    """The question this contrast belongs to; Holm's correction runs over the
    tests of one family, group and precision (the two low-precision families: over all lower precisions)."""
    difference: float
    """Accuracy of a minus accuracy of b."""
    ci: tuple[float, float]
    """95 % interval of the difference for new sentences (and seeds, see ``covers``), not corrected for multiplicity."""
    wider: dict[str, tuple[float, float]] = {}
    """The same for ``new languages`` and for ``new topics`` (intents, say) beside new sentences, where the items
    have enough of them (statistics/wider.py)."""
    df: float
    """Degrees of freedom of the t interval that reaches as far; small where few seeds decide."""
    p: float
    p_holm: float
    """Corrected within family and group. Controls are not corrected: ECR must beat every one of them
    (intersection-union test, Berger 1982, Technometrics 24), so no chance of a lucky pass is added."""
    p_smaller_holm: float | None = None
    """The same for a difference of the smallest size that matters (one point): it is what refutes a small gain. Null
    for controls."""
    mcnemar_p: float
    """Exact McNemar over items and seeds pooled; treats answers as independent, hence optimistic."""
    mcnemar_by_seed: tuple[float, ...]
    """The same for each pair of seeds."""
    mdd: float
    """Minimum detectable difference: supported with 80 % power at the first step of Holm's correction."""
    n_items: int
    n_seeds: int
    """Seeds of the arm with fewer."""
    n_clusters: int
    covers: str
    """As in a row."""
    verdict: Word
    """Of a > b, by the one rule for all (results/judgement.py)."""
    attribution: Attribution | None = None
    """What the controls of ``a`` say of a gain; null where ``a`` is not the main arm or ``b`` is a control."""
    sentence: str
    """The same in words."""


class TaskVerdict(Record):
    """The headline question on one task."""

    task: str
    answer: Word
    difference: float
    ci: tuple[float, float]
    mdd: float
    p_holm: float
    sentence: str
    attribution: Attribution
    qualification: str
    """What the controls say, in words."""


class Verdict(Record):
    """Does the small model with ECR beat the plain large one on unseen languages?"""

    question: str
    small: NamedArm | None
    """The main arm at the smallest size it was run at; null where it was not."""
    large: NamedArm | None
    """The plain arm at the size nearest three times as many parameters; null where there is none."""
    ratio: float | None
    """Parameters of ``large`` as a multiple of those of ``small``."""
    answer: Word
    """On ``all`` tasks; see ``by_task`` for coarse and fine."""
    attributable: bool | None
    """No control does as well on any task; null if a control is missing."""
    sentence: str
    by_task: dict[str, TaskVerdict]
    low_precision: tuple[str, ...]
    """The same question in lower precisions, one sentence each."""


class Diverged(Record):
    """A cell that has no accuracy at a precision, because its numbers are not finite: in no mean, rank or contrast."""

    cell: str
    arm: NamedArm
    seed: int
    precision: str
    reason: str


class Board(Record):
    """Everything a run found; the Markdown and terminal tables are drawn from it alone."""

    name: str
    rows: list[BoardRow]
    by_language: list[LanguageRow]
    scorings: list[ScoringRow] = []
    """The same accuracies with options chosen otherwise; nothing is ranked, compared or claimed by them."""
    baselines: dict[str, dict[str, dict[str, float]]]
    """group -> task -> surface baseline (copy, length, majority, chance) -> accuracy."""
    floors: dict[Group, tuple[str, ...]] = {}
    """Group -> single tasks on which the interval of every arm that reads text with a language model reaches chance.
    Beside each mean that holds one stands the mean without them, ``all above floor``."""
    contrasts: list[Contrast]
    verdict: Verdict
    diverged: list[Diverged] = []
    """Cells without accuracy."""
    notes: list[str]
    provenance: dict[str, Any]
