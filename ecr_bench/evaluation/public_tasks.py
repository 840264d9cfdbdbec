"""The public benchmarks we score, as data: where lm-eval keeps their prompts, fields, clusters, chance.

What control tokens may see of them is in ``ecr/cue.py``; docs/public-tasks.md shows both in one table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lm_eval.tasks

from ecr_bench.evaluation.languages import FLORES, language
from ecr_bench.io import fingerprint
from ecr_bench.registry import Registry
from ecr_bench.types import Grain

TEXT, MAYBE_EMPTY, GAP = re.compile(r"\S"), re.compile(""), re.compile("_")
Field = re.Pattern[str] | tuple[Any, ...] | None
"""What a field of a document must hold: text that a pattern is found in, one of some values, or (None) anything."""


@dataclass(frozen=True)
class Cluster:
    """Which items are resampled together: those that share passage, premise or schema, in every language."""

    fields: tuple[str, ...] = ()
    """Their values, in any order, name the cluster; without fields its position does."""
    rows: int = 1
    """Neighbouring rows that make one cluster, where positions name it."""
    parallel: bool = True
    """The set is translated: equal names in two languages are the same cluster."""

    def name(self, public: str, lang: str, doc: Mapping[str, Any], position: int) -> str:
        key = str(position // self.rows)
        if self.fields:
            key = "|".join(sorted(str(doc[name]).strip().casefold() for name in self.fields))
        return f"{public}:{key}" if self.parallel else f"{public}:{lang}:{fingerprint(key)}"


@dataclass(frozen=True)
class PublicTask:
    """One benchmark. ``fields`` are those that prompt and clusters need; other fields of a local file are ignored."""

    name: str
    prefix: str
    """lm-eval's task is called ``prefix`` + language code; ecr/cue.py knows it by this prefix."""
    files: str
    """lm-eval's YAML of each language, below its ``tasks`` folder (or absolute); ``{code}`` is the language."""
    grain: Grain
    options: int
    fields: Mapping[str, Field]
    cluster: Cluster
    splits: tuple[str, ...] = ("test",)
    """Names of a local file without ``.jsonl``, in order of preference; the split lm-eval scores comes first."""
    all_codes: tuple[str, ...] = ()
    """Languages, where ``files`` is one file for all."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of lm-eval's configuration to replace; never a prompt."""
    text_in_options: bool = False
    """The context is empty and the options hold the whole text."""

    @cached_property
    def configs(self) -> dict[str, Path]:
        """Language code, as lm-eval writes it -> its YAML file."""
        root = Path(lm_eval.tasks.__file__).parent
        if self.all_codes:
            return dict.fromkeys(self.all_codes, root / self.files)
        pattern = str(root / self.files)
        first, *rest = map(re.escape, pattern.split("{code}"))
        named = re.compile("(?P=code)".join([f"{first}(?P<code>[^/]+){rest[0]}", *rest[1:]]))
        paths = sorted(Path("/").glob(pattern.replace("{code}", "*")[1:]))
        return {match["code"]: path for path in paths if (match := named.fullmatch(str(path)))}


PUBLIC_TASKS = Registry("public task")
"""Public tasks by name. A plugin adds ``PUBLIC_TASKS.add("mine", PublicTask(...))`` and its cue (``ecr.cue.CUES``)."""


def _add(public: PublicTask) -> None:
    PUBLIC_TASKS.add(public.name, public)


_add(
    PublicTask(
        name="xnli",
        prefix="xnli_",
        files="xnli/xnli_{code}.yaml",
        grain="fine",
        options=3,
        fields={"premise": TEXT, "hypothesis": TEXT, "label": (0, 1, 2)},
        cluster=Cluster(rows=3),
        splits=("validation", "val", "dev"),
        text_in_options=True,
    )
)
_add(
    PublicTask(
        name="xcopa",
        prefix="xcopa_",
        files="xcopa/default_{code}.yaml",
        grain="fine",
        options=2,
        fields={
            **dict.fromkeys(("premise", "choice1", "choice2"), TEXT),
            "question": ("cause", "effect"),
            "label": (0, 1),
            "idx": None,
        },
        cluster=Cluster(("idx",)),
    )
)
_add(
    PublicTask(
        name="xstorycloze",
        prefix="xstorycloze_",
        files="xstorycloze/default_{code}.yaml",
        grain="fine",
        options=2,
        fields={
            **{f"input_sentence_{i}": TEXT for i in range(1, 5)},
            **dict.fromkeys(("sentence_quiz1", "sentence_quiz2"), TEXT),
            "answer_right_ending": (1, 2),
            "story_id": None,
        },
        cluster=Cluster(("story_id",)),
        splits=("eval", "validation", "val", "dev"),
    )
)
_add(
    PublicTask(
        name="xwinograd",
        prefix="xwinograd_",
        files="xwinograd/xwinograd_{code}.yaml",
        grain="fine",
        options=2,
        fields={"sentence": GAP, "option1": TEXT, "option2": TEXT, "answer": ("1", "2")},
        cluster=Cluster(("option1", "option2"), parallel=False),
    )
)
_add(
    PublicTask(
        name="pawsx",
        prefix="paws_",
        files="paws-x/paws_{code}.yaml",
        grain="fine",
        options=2,
        fields={"sentence1": MAYBE_EMPTY, "sentence2": MAYBE_EMPTY, "label": (0, 1), "id": None},
        cluster=Cluster(("id",)),
        text_in_options=True,
    )
)
_add(
    PublicTask(
        name="belebele",
        prefix="belebele_",
        files="belebele/belebele_{code}.yaml",
        grain="fine",
        options=4,
        fields={
            **dict.fromkeys(("flores_passage", "question"), TEXT),
            **{f"mc_answer{i}": MAYBE_EMPTY for i in range(1, 5)},
            "correct_answer_num": ("1", "2", "3", "4"),
            "link": None,
        },
        cluster=Cluster(("link",)),
    )
)
_add(
    PublicTask(
        name="sib200",
        prefix="sib200_",
        files="afrobench/sib/prompt_1/sib_eng.yaml",
        grain="coarse",
        options=7,
        fields={
            "text": TEXT,
            "category": (
                "science/technology", "travel", "politics", "sports", "health", "entertainment", "geography",
            ),
            "index_id": None,
        },
        cluster=Cluster(("index_id",)),
        all_codes=FLORES,
        # f1 is computed by code that is downloaded from the hub when the task is loaded
        overrides={"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]},
    )
)  # fmt: skip
_add(
    PublicTask(
        name="multiblimp",
        prefix="multiblimp_",
        files="multiblimp/multiblimp_{code}.yaml",
        grain="fine",
        options=2,
        fields={"sen": TEXT, "wrong_sen": TEXT},
        cluster=Cluster(("sen",), parallel=False),
        splits=("train", "test"),
        text_in_options=True,
    )
)
_add(
    PublicTask(
        name="global_mmlu",
        prefix="global_mmlu_",
        # six tasks per language differ in nothing but the subjects they filter: one task without the filter
        files="global_mmlu/default/{code}/global_mmlu_{code}_stem.yaml",
        grain="fine",
        options=4,
        fields={
            "question": TEXT,
            **{f"option_{letter}": MAYBE_EMPTY for letter in "abcd"},
            "answer": ("A", "B", "C", "D"),
            "sample_id": None,
        },
        cluster=Cluster(("sample_id",)),
        overrides={"process_docs": None},
    )
)


@dataclass(frozen=True)
class Member:
    """One benchmark in one language."""

    public: PublicTask
    code: str

    @property
    def task_name(self) -> str:
        """As lm-eval calls it (``sib200_`` and ``global_mmlu_`` are our own names for its prompts)."""
        return self.public.prefix + self.code

    @property
    def lang(self) -> str:
        return language(self.code)

    @property
    def aliases(self) -> set[str]:
        """Names this member may be asked for by: with lm-eval's language code or ours."""
        starts = (self.public.prefix, f"{self.public.name}_")
        return {start + end for start in starts for end in (self.code, self.lang)}


def members(public: PublicTask) -> list[Member]:
    """A benchmark in all its languages, in order of their codes."""
    return [Member(public, code) for code in sorted(public.configs)]


def all_public_tasks() -> list[PublicTask]:
    """All that are registered."""
    return [PUBLIC_TASKS.get(name) for name in PUBLIC_TASKS]
