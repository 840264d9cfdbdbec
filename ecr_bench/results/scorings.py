"""Accuracy where an option is chosen by another number than its whole log-likelihood, beside what the board ranks by.

Options of unlike lengths make the choice of a rule matter. ``acc_bytes`` is lm-eval's: the log-likelihood by UTF-8
bytes of the option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from ecr_bench.arm import Arm
from ecr_bench.results.contrasts import TASKS
from ecr_bench.results.schema import Group, Scoring, ScoringRow
from ecr_bench.statistics.paired import accuracy
from ecr_bench.statistics.panel import build_panel

SUMS_TO_ONE = 1e-6
"""Off 1, in nats: of probabilities over options that were normalised over them."""


def _by_bytes(records: pd.DataFrame) -> list[np.ndarray]:
    return [
        np.asarray(scores) / np.maximum(np.asarray(size), 1)
        for scores, size in zip(records["loglikelihoods"], records["choice_bytes"], strict=True)
    ]


RULES: dict[Scoring, Callable[[pd.DataFrame], list[np.ndarray]]] = {"acc_bytes": _by_bytes}
"""lm-eval's name of the accuracy -> what options are chosen by."""


def scoring_rows(records: pd.DataFrame, arms: Mapping[str, Arm], group: Group, precision: str) -> list[ScoringRow]:
    """Rows of one ``group`` of languages at one precision; none for an arm that gives no likelihood of texts, as a
    probe: its numbers are probabilities of the options of an item, which have no length."""
    chosen = records[(records["group"] == group) & (records["precision"] == precision)]
    chosen = chosen[~chosen["arm"].isin(over_options(chosen))]
    if chosen.empty:
        return []
    rows = []
    for metric, rule in RULES.items():
        panel = build_panel(chosen.assign(correct=_right(chosen, rule(chosen))))
        for name in sorted(chosen["arm"].unique()):
            for task in (task for task in TASKS if task in panel.tasks):
                found = accuracy(panel, name, precision, task)
                rows.append(
                    ScoringRow(
                        arm=arms[name], precision=precision, group=group, task=task, metric=metric,
                        mean=found.value, ci=(found.low, found.high),
                    )
                )  # fmt: skip
    return rows


def over_options(records: pd.DataFrame) -> set[str]:
    """Arms whose likelihoods add up to 1 over the options of every item."""
    off = records["loglikelihoods"].map(lambda scores: abs(float(np.logaddexp.reduce(np.asarray(scores)))))
    worst = off.groupby(records["arm"]).max()
    return set(worst.index[worst < SUMS_TO_ONE])


def _right(records: pd.DataFrame, scores: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) whether the option that scores highest, the first of several, is right."""
    said = np.fromiter((int(np.argmax(one)) for one in scores), dtype=np.int64, count=len(scores))
    # an item may have several right options, of which a record names one
    same = said == records["predicted"].to_numpy()
    return np.where(same, records["correct"].to_numpy(), said == records["gold"].to_numpy())
