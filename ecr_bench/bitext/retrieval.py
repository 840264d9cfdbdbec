"""Retrieval of translations, language by language, on a corpus of parallel rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ecr_bench.corpora.base import Corpus
from ecr_bench.data.parallel import paired_rows
from ecr_bench.errors import UserError
from ecr_bench.evaluation.geometry import Embed
from ecr_bench.metrics.functional.bitext import both_ways_accuracy, mexa, retrieval_accuracy
from ecr_bench.section import Section
from ecr_bench.sections import TeacherConfig
from ecr_bench.statistics.interval import Interval, proportion

FEWEST = 2
"""Pairs of a language: with one there is nothing else to find."""


class LanguagePair(Section):
    """How translations between a language and the pivot find each other; shares on the 0..1 scale."""

    lang: str
    pivot: str
    pairs: int
    there: float
    """Texts of the language whose nearest text of the pivot, by cosine, is their translation (P@1)."""
    back: float
    """The same from the pivot."""
    mutual: float
    """Pairs that are nearer to each other than to any other text on either side (MEXA)."""
    centred: float
    """Mean of ``there`` and ``back`` when each side's mean is subtracted first."""

    @property
    def interval(self) -> Interval:
        """95 % interval of ``there``, pairs taken as independent."""
        return proportion(round(self.there * self.pairs), self.pairs)


def retrieve(corpus: Corpus, encode: Embed, per_language: int, seed: int = 0) -> Iterator[LanguagePair]:
    """Each language of ``corpus`` against English, or against the language with most rows where there is none.

    Candidates are the drawn texts of the same pair of languages, so compare at equal ``pairs`` only.

    Raises:
        UserError: no two rows of different languages share a meaning.
    """
    rows = paired_rows(corpus.dataset.to_pandas(), per_language, seed)
    if rows.empty:
        raise UserError(
            f"{corpus.card.source}: no two rows of different languages have the same meaning: nothing is a translation"
        )
    vectors = encode(rows["text"].tolist(), rows["lang"].tolist())
    rows = rows.assign(row=range(len(rows)))
    pivot = str(rows["lang"].iloc[1])
    for lang, part in rows.iloc[::2].groupby("lang", sort=True):
        at = torch.from_numpy(part["row"].to_numpy().copy())
        if len(at) >= FEWEST:
            yield _found(str(lang), pivot, vectors[at], vectors[at + 1])


def _found(lang: str, pivot: str, source: torch.Tensor, target: torch.Tensor) -> LanguagePair:
    there, back = (float(retrieval_accuracy(*pair)) for pair in ((source, target), (target, source)))
    one, other = (side - side.mean(0) for side in (source, target))
    centred = float(both_ways_accuracy(one, other))
    return LanguagePair(
        lang=lang, pivot=pivot, pairs=len(source), there=there, back=back,
        mutual=float(mexa(source, target)), centred=centred,
    )  # fmt: skip


def by_teacher(name: str, options: dict[str, Any]) -> Embed:
    """Vectors of a registered teacher; kept in the cache of embeddings."""
    from ecr_bench.teachers.cache import embed_cached
    from ecr_bench.teachers.registry import create

    teacher = create(TeacherConfig(name=name, options=options))
    return lambda texts, _: torch.from_numpy(embed_cached(teacher, list(texts)).copy())


def by_bundle(folder: Path, layer: int) -> Embed:
    """Mean hidden states of a bundle's model, with the control tokens of each text in front of it."""
    from ecr_bench.bundle.use import open_bundle
    from ecr_bench.evaluation.pooled import pooled_states

    lm = open_bundle(folder).lm
    model, conditioner = lm.model, lm.conditioner
    assert conditioner is not None
    conditioner.attach(model)
    return lambda texts, langs: pooled_states(model, conditioner, texts, langs, layer)
