"""Differences that hold for new languages, or for new topics (intents, say), beside new sentences.

Languages, and topics, cross with clusters and with each other, and each may shift a difference as a whole. What they
add is what their own means vary by, less what sentences alone explain of it: the same rule as for seeds, and to first
order the variance for clusters in several ways of Cameron, Gelbach & Miller (2011, J. Bus. Econ. Stat. 29). A question
in one language with options in another belongs to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from ecr_bench.statistics.interval import Covers, Interval, VarianceComponent, limits
from ecr_bench.statistics.paired import difference_of, kappa_of, parts_of, value_of, weights_of
from ecr_bench.statistics.panel import Panel, unbiased

FEWEST = 4
"""Languages or topics under which nothing is said about new ones."""


def compare_wider(panel: Panel, rows_a: Sequence[int], rows_b: Sequence[int], task: str) -> list[Interval]:
    """``paired.compare_respondents`` with limits for new languages and for new topics, in this order, where enough.

    Each covers what the narrower interval covers as well.
    """
    if panel.n_clusters(task) < 2:
        return []
    terms = difference_of(rows_a, rows_b)
    own, _ = parts_of(panel, terms, task, kappa_of(panel, rows_a, rows_b, task))
    value = value_of(panel, terms, task)
    layout = _item_factors(panel, task)
    moved = layout.moved(weights_of(panel, terms) @ panel.correct[:, layout.items])
    added = ((Covers.LANGUAGES, layout.language, moved.between), (Covers.TOPICS, layout.topic, moved.within))
    return [
        Interval(value, *limits(value, [*own, _added(moved, factor, sums)], -1.0, 1.0), covers)
        for covers, factor, sums in added
        if factor and factor.n >= FEWEST
    ]


class Factor(NamedTuple):
    """What the I items of a task belong to, languages or topics: its levels."""

    codes: np.ndarray
    """(I,) number of each item's level."""
    n: int
    """Levels."""
    by_cluster: np.ndarray
    """(I,) number of each item's pair of cluster and level."""


class Moved(NamedTuple):
    """What each of the I items of a task moves a combination of respondents by."""

    within: np.ndarray
    """(I,) weight of the item times its deviation from the mean of its language within its task."""
    between: np.ndarray
    """(I,) weight of the item times the deviation of that mean from the mean of its task."""
    over_clusters: float
    """Variance over clusters drawn anew."""


@dataclass(frozen=True, eq=False)
class ItemFactors:
    """The items behind a task, in the order of ``items``, and what they belong to."""

    items: np.ndarray
    """(I,) positions in the panel."""
    cluster: np.ndarray
    stratum: np.ndarray
    task: np.ndarray
    weight: np.ndarray
    """(I,) of each item in the macro mean."""
    scale: np.ndarray
    """(I,) that makes squared deviations within the item's stratum unbiased."""
    language: Factor
    topic: Factor | None
    """None where an item has none."""

    def moved(self, values: np.ndarray) -> Moved:
        """``values``: (I,) the combination of the respondents' answers to each item."""
        of_stratum = (np.bincount(self.stratum, values) / np.bincount(self.stratum))[self.stratum]
        totals = np.bincount(self.task, self.weight * of_stratum) / np.bincount(self.task, self.weight)
        within = self.weight * self.scale * (values - of_stratum)
        between = self.weight * (of_stratum - totals[self.task])
        return Moved(within, between, float((np.bincount(self.cluster, within) ** 2).sum()))


@lru_cache(maxsize=16)
def _item_factors(panel: Panel, task: str) -> ItemFactors:
    chosen = panel.single_tasks_of(task)
    strata = [(column, rows) for column, _, rows in panel.strata if column in chosen]
    languages = np.bincount([column for column, _ in strata])
    rows = np.concatenate([rows for _, rows in strata])
    sizes = [len(rows) for _, rows in strata]
    items = panel.items.iloc[rows]
    cluster = pd.factorize(items["cluster"])[0]
    scale = [unbiased(panel.items["cluster"].iloc[rows].nunique()) for _, rows in strata]
    weight = [1.0 / (len(chosen) * languages[column] * len(rows)) for column, rows in strata]
    return ItemFactors(
        items=rows,
        cluster=cluster,
        stratum=np.repeat(np.arange(len(strata)), sizes),
        task=np.repeat([chosen.index(column) for column, _ in strata], sizes),
        weight=np.repeat(weight, sizes),
        scale=np.repeat(scale, sizes),
        language=_factor(_language(items), cluster),
        topic=None if (items["topic"] == "").any() else _factor(items["topic"], cluster),
    )


def _factor(names: pd.Series, cluster: np.ndarray) -> Factor:
    codes, found = pd.factorize(names)
    return Factor(codes, len(found), pd.factorize(cluster * len(found) + codes)[0])


def _added(moved: Moved, factor: Factor, values: np.ndarray) -> VarianceComponent:
    """What a factor adds to the variance: that of the sums of ``values`` over its levels, less what items explain."""
    sums, n = np.bincount(factor.codes, values), factor.n
    in_levels = float((np.bincount(factor.by_cluster, moved.within) ** 2).sum())
    raw = n / (n - 1) * float(((sums - sums.mean()) ** 2).sum())
    explained = n / (n - 1) * (in_levels - moved.over_clusters / n)
    return VarianceComponent(max(0.0, raw - explained), n - 1)


def _language(items: pd.DataFrame) -> pd.Series:
    """The language of each item; of a pair the one that fewer pairs have, so that a hub such as English is none's.

    Where both are as frequent it is the language of the text.
    """
    pairs = items[["lang", "target_lang"]].drop_duplicates()
    frequency = pd.concat([pairs["lang"], pairs["target_lang"]]).value_counts()
    hub = items["lang"].map(frequency) > items["target_lang"].map(frequency)
    return items["lang"].where(~hub, items["target_lang"])
