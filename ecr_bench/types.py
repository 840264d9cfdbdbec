"""The records that travel between stages: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ecr_bench.arm import Arm, NamedArm

Split = Literal["train", "validation", "test"]
Grain = Literal["coarse", "fine"]

NOBODY = Arm("", "")
"""The arm of what no experiment has named yet."""

CORPUS_COLUMNS = ("id", "text", "lang", "meaning", "label", "unit", "split", "slots")


@dataclass(frozen=True)
class Item:
    """One multiple-choice question, for training and for scoring alike.

    ``prompt`` is what a model reads: ``text + "\\n" + question``, with ``text`` at the start. The
    continuation of option i is ``" " + choices[i]``. ``text`` is the only part control tokens may see
    (docs/protocol.md, 4): it is the same for every option and holds no answer, label or later token.
    """

    item_id: str
    task: str
    """``intent``, ``slot``, ``meaning``."""
    grain: Grain
    cluster: str
    """Items with the same cluster are resampled together (the corpus ``meaning``)."""
    lang: str
    """Language of ``text``."""
    target_lang: str
    """Language of the options where they are sentences, else equal to ``lang``."""
    text: str
    question: str
    choices: tuple[str, ...]
    gold: int
    topic: str = ""
    """What the text is about: the label of its row (an intent, a kind of message). No model reads it; statistics draw
    topics anew."""

    @property
    def prompt(self) -> str:
        return f"{self.text}\n{self.question}"


@dataclass(frozen=True)
class Prompt:
    """A context to condition: the full string, the part control tokens may see, and its language.

    ``cue`` None or empty means 'nothing to look at' and gives null tokens. ``lang`` is only for the
    control arms that are told the language; ECR itself never reads it.
    """

    text: str
    cue: str | None
    lang: str = ""


@dataclass(frozen=True)
class Measure:
    """One number about one trained cell that is not accuracy: geometry, semantic similarity, stability.

    ``measures.json`` of a run is a list of these; claims and report read nothing else about them.
    """

    __pydantic_config__ = {"extra": "forbid"}

    metric: str
    """Name in the field's words, e.g. ``cka_base``; ``metrics/registry.py`` lists and explains them."""
    value: float | None
    """None where it could not be measured; then ``reason`` says why."""
    step: int | None = None
    """Fine-tuning step it was taken at; None for the finished cell."""
    layer: int | None = None
    """Hidden state it was taken from (-1: the last), where one is."""
    precision: str = "fp32"
    lang: str = ""
    """Language or language pair; empty for the mean over all."""
    n: int = 0
    """Texts, pairs or steps it rests on."""
    null: tuple[float, float, float] | None = None
    """Mean, 2.5 % and 97.5 % quantile under the metric's permutation null."""
    reason: str = ""
    """Why there is no value, in words; empty where there is one."""
    cell: str = ""
    """Label of the cell; with ``arm`` and ``seed`` empty in the folder of a stage, which belongs to no experiment."""
    arm: NamedArm = NOBODY
    seed: int = 0
