"""Which metrics are taken of which rows: sentence vectors of the parallel rows in, measures out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from ecr_bench.metrics.functional.checks import NotMeasurable
from ecr_bench.metrics.metric import Metric
from ecr_bench.metrics.options import Blocks
from ecr_bench.metrics.registry import AGAINST_TEACHER, ASPECTS, METRICS, PLAIN
from ecr_bench.types import Measure

PERMUTATIONS = 200
COSTLY = 50
"""Permutations where each one means the neighbours of a new cloud."""


@dataclass(frozen=True)
class ParallelRows:
    """The parallel rows (data/parallel.py) as what metrics ask for. All (N,) int64 unless said otherwise."""

    distinct: torch.Tensor
    """(M,) rows to use where a text must not occur twice."""
    balanced: torch.Tensor
    """(B,) of those, no more rows of the pivot language than of the largest other one."""
    language: torch.Tensor
    languages: tuple[str, ...]
    meaning: torch.Tensor

    @classmethod
    def of(cls, frame: pd.DataFrame) -> ParallelRows:
        language, languages = pd.factorize(frame["lang"], sort=True)
        meaning, _ = pd.factorize(frame["meaning"])
        distinct = frame[~frame.duplicated(["text", "lang"])]
        most = int(frame["lang"].iloc[0::2].value_counts().max()) if len(frame) else 0
        balanced = distinct[distinct.groupby("lang").cumcount() < most]
        tensors = [torch.as_tensor(part.copy()) for part in (distinct.index.values, balanced.index.values)]
        codes = [torch.as_tensor(part.astype("int64")) for part in (language, meaning)]
        return cls(tensors[0], tensors[1], codes[0], tuple(map(str, languages)), codes[1])

    @property
    def pair_language(self) -> torch.Tensor:
        """(N / 2,) the language of each pair that is not the pivot."""
        return self.language[0::2]


@dataclass(frozen=True)
class Taken:
    """Where and when vectors were taken, and whether to ask what chance would give."""

    step: int | None = None
    layer: int | None = None
    precision: str = "fp32"
    null: bool = True
    suffix: str = ""
    """``PLAIN`` for texts without control tokens."""


def measure(
    name: str,
    rows: Sequence[Any],
    taken: Taken,
    n: int,
    lang: str = "",
    permutations: int = PERMUTATIONS,
    **options: Any,
) -> Measure:
    """One metric of rows: tensors, or what else its function takes.

    Its value is None where it cannot be measured, and ``reason`` says why: rows are too few, it is not defined for
    them, or a vector is not finite (a model that diverged has no geometry; only stability is measured of such).

    ``n``: what it rests on. ``options`` go to the metric.
    """
    metric: Metric = METRICS.get(name)
    value, null, reason = None, None, ""
    try:
        if ASPECTS[name] != "stability" and not all(part.isfinite().all() for part in _tensors(rows)):
            raise NotMeasurable("not all numbers are finite")
        value = _finite(metric.value(*rows, **options))
        if taken.null and metric.null is not None:
            null = metric.null(*rows, permutations=permutations, **options)
    except NotMeasurable as error:
        reason = "" if value is not None else str(error)
    return Measure(
        metric=name + taken.suffix, value=value, step=taken.step,
        layer=taken.layer, precision=taken.precision, lang=lang, n=n, null=null, reason=reason,
    )  # fmt: skip


def _tensors(rows: Any) -> Iterator[torch.Tensor]:
    """All tensors, at any depth."""
    if isinstance(rows, torch.Tensor):
        yield rows
    else:
        for part in rows:
            yield from _tensors(part)


def _finite(value: torch.Tensor) -> float:
    """NotMeasurable for what is no number."""
    number = float(value)
    if not math.isfinite(number):
        raise NotMeasurable("the value is not finite")
    return number


def text_measures(nats: torch.Tensor, size: torch.Tensor, rows: ParallelRows, taken: Taken) -> Iterator[Measure]:
    """Nats (N,) and UTF-8 bytes (N,) of the parallel texts, each text once: as the mean over languages and in each."""
    language = rows.language[rows.distinct]
    parts = [nats[rows.distinct], size[rows.distinct], language]
    yield measure("bits_per_byte", parts, taken, len(language))
    for code in language.unique().tolist():
        chosen = language == code
        lang = rows.languages[code]
        yield measure("bits_per_byte", [part[chosen] for part in parts], taken, int(chosen.sum()), lang=lang)


def drift_measures(states: torch.Tensor, base: torch.Tensor, rows: ParallelRows, taken: Taken) -> Iterator[Measure]:
    """States (N, d) of a trained model against those (N, e) of its base model; each text once."""
    both = states[rows.distinct], base[rows.distinct]
    yield measure("cka_base", both, taken, len(rows.distinct))
    yield measure("procrustes_base", both, taken, len(rows.distinct), permutations=COSTLY)


def manifold_measures(
    states: torch.Tensor, teacher: torch.Tensor, rows: ParallelRows, taken: Taken
) -> Iterator[Measure]:
    """States (N, d) by themselves and against the teacher's vectors (N, t); each text once."""
    own, wanted = states[rows.distinct], teacher[rows.distinct]
    yield measure("intrinsic_dimension", [own], taken, len(own), permutations=COSTLY)
    yield measure("isoscore", [own], taken, len(own), permutations=COSTLY)
    for name in AGAINST_TEACHER:
        yield measure(name, [wanted, own], taken, len(own))


def bitext_measures(
    states: torch.Tensor, rows: ParallelRows, taken: Taken, by_language: bool = False
) -> Iterator[Measure]:
    """Whether translations find each other, as the mean over languages and, if asked for, in each."""
    other, pivot, strata = states[0::2], states[1::2], rows.pair_language
    for name, sides in (
        ("mexa", (other, pivot)),
        ("retrieval", (other, pivot)),
        ("retrieval_to_pivot", (other, pivot)),
        ("retrieval_from_pivot", (pivot, other)),
    ):
        yield measure(name, [*sides, strata], taken, len(strata))
        for code in strata.unique().tolist() if by_language else ():
            chosen = strata == code
            parts = [part[chosen] for part in (*sides, strata)]
            yield measure(name, parts, taken, int(chosen.sum()), lang=rows.languages[code])


def language_measures(states: torch.Tensor, rows: ParallelRows, taken: Taken) -> Iterator[Measure]:
    """Hubs, and whether a probe finds the language."""
    own, some = states[rows.distinct], rows.balanced
    yield measure("hubness", [own], taken, len(own), permutations=COSTLY)
    labelled = states[some], rows.language[some], rows.meaning[some]
    yield measure("language_separability", labelled, taken, len(some))


def option_measures(blocks: Blocks, taken: Taken) -> Iterator[Measure]:
    """Agreement of two languages on the options of an item (metrics/options.py)."""
    yield measure("rankc", [blocks], taken, sum(len(first) for first, _ in blocks))


def similarity_measures(
    first: torch.Tensor, second: torch.Tensor, wanted: torch.Tensor, langs: Sequence[str], taken: Taken
) -> Iterator[Measure]:
    """STS: vectors (N, d) of the sentences of each pair, human scores (N,), as the mean over languages and in each."""
    codes, languages = pd.factorize(pd.Series(langs), sort=True)
    strata = torch.as_tensor(codes.astype("int64"))
    yield measure("sts_spearman", [first, second, wanted, strata], taken, len(strata))
    for code, lang in enumerate(languages):
        chosen = strata == code
        batch = first[chosen], second[chosen], wanted[chosen], strata[chosen]
        yield measure("sts_spearman", batch, taken, int(chosen.sum()), lang=str(lang))


def stability_measures(loss: torch.Tensor, grad_norm: torch.Tensor) -> Iterator[Measure]:
    """Of the loss and gradient norm (steps,) of every training step; these have no null."""
    for name in (name for name, aspect in ASPECTS.items() if aspect == "stability"):
        yield measure(name, [loss, grad_norm], Taken(null=False), len(loss))


def plain(taken: Taken) -> Taken:
    """The same, for texts without control tokens."""
    return replace(taken, suffix=PLAIN)
