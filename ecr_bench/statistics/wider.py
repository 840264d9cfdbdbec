"""Differences that hold for new languages, or for new topics (intents, say), beside new sentences.

Languages, and topics, cross with clusters and with each other, and each may shift a difference as a whole. What they
add is what their own means vary by, less what sentences alone explain of it: the same rule as for seeds, and to first
order the variance for clusters in several ways of Cameron, Gelbach & Miller (2011, J. Bus. Econ. Stat. 29). A question
in one language with options in another belongs to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecr_bench.statistics.interval import Covers, Interval, Part, limits
from ecr_bench.statistics.paired import difference_of, kappa_of, parts_of, value_of, weights_of
from ecr_bench.statistics.panel import Panel, summed, unbiased

FEWEST = 4
"""Languages or topics under which nothing is said about new ones."""


def compare_wider(panel: Panel, rows_a: Sequence[int], rows_b: Sequence[int], task: str) -> list[Interval]:
    """``paired.compare_units`` with limits for new languages and for new topics, in this order, where there are enough.

    Each covers what the narrower interval covers as well.
    """
    if panel.n_clusters(task) < 2:
        return []
    terms = difference_of(rows_a, rows_b)
    own, _ = parts_of(panel, terms, task, kappa_of(panel, rows_a, rows_b, task))
    value = value_of(panel, terms, task)
    layout = Layout.of(panel, weights_of(panel, terms), task)
    added = ((Covers.LANGUAGES, layout.languages()), (Covers.TOPICS, layout.topics()))
    return [Interval(value, *limits(value, [*own, part], -1.0, 1.0), covers) for covers, part in added if part]


@dataclass(frozen=True)
class Layout:
    """What each of the I items of a task moves a combination of units by, and what it belongs to."""

    cluster: np.ndarray
    language: np.ndarray
    topic: np.ndarray
    """(I,) str; empty where a corpus or benchmark has none."""
    within: np.ndarray
    """(I,) weight of the item times its deviation from the mean of its language within its task."""
    between: np.ndarray
    """(I,) weight of the item times the deviation of that mean from the mean of its task."""

    @classmethod
    def of(cls, panel: Panel, weights: np.ndarray, task: str) -> Layout:
        chosen = panel.families_of(task)
        strata = [(column, rows) for column, _, rows in panel.strata if column in chosen]
        languages = np.bincount([column for column, _ in strata])
        means = weights @ panel.family_means
        within, between = [], []
        for column, rows in strata:
            values = weights @ panel.correct[:, rows]
            weight = 1.0 / (len(chosen) * languages[column] * len(rows))
            scale = unbiased(panel.items["cluster"].iloc[rows].nunique())
            within.append(weight * scale * (values - values.mean()))
            between.append(np.full(len(rows), weight * (values.mean() - means[column])))
        items = panel.items.iloc[np.concatenate([rows for _, rows in strata])]
        names = (items["cluster"], _language(items), items["topic"])
        cluster, language, topic = (name.to_numpy() for name in names)
        return cls(cluster, language, topic, np.concatenate(within), np.concatenate(between))

    def languages(self) -> Part | None:
        """What languages add to the variance."""
        return self._added(self.language, self.between)

    def topics(self) -> Part | None:
        """What topics add to the variance; None where an item has none."""
        return None if (self.topic == "").any() else self._added(self.topic, self.within)

    def _added(self, group: np.ndarray, values: np.ndarray) -> Part | None:
        codes, names = pd.factorize(group)
        n = len(names)
        if n < FEWEST:
            return None
        sums = summed(values, codes, n)
        clusters, n_clusters = (found := pd.factorize(self.cluster))[0], len(found[1])
        cells, pairs = pd.factorize(clusters * n + codes)
        in_groups = float((summed(self.within, cells, len(pairs)) ** 2).sum())
        overall = float((summed(self.within, clusters, n_clusters) ** 2).sum())
        raw = n / (n - 1) * float(((sums - sums.mean()) ** 2).sum())
        explained = n / (n - 1) * (in_groups - overall / n)
        return Part(max(0.0, raw - explained), n - 1)


def _language(items: pd.DataFrame) -> pd.Series:
    """The language of each item; of a pair the one that fewer pairs have, so that a hub such as English is none's.

    Where both are as frequent it is the language of the text.
    """
    pairs = items[["lang", "target_lang"]].drop_duplicates()
    frequency = pd.concat([pairs["lang"], pairs["target_lang"]]).value_counts()
    hub = items["lang"].map(frequency) > items["target_lang"].map(frequency)
    return items["lang"].where(~hub, items["target_lang"])
