"""Options chosen by what the text adds to their likelihood: log P(option | text) - log P(option), in nats.

The second term is of the option after BOS and null control tokens alone (lm-eval's ``acc_mutual_info``; Holtzman et al.
2021, arXiv 2104.08315). It takes away what an option owes to being short or common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ecr_bench.items.registry import task_name
from ecr_bench.metrics.suite import Taken, measure
from ecr_bench.types import Item, Measure

NAME = "acc_mutual_info"


def measures_of(
    records: pd.DataFrame, items: Sequence[Item], alone: Mapping[str, float], precision: str
) -> Iterator[Measure]:
    """Accuracy on languages without labels: of all tasks, of coarse and fine ones, and of each language.

    ``alone``: option -> its log-likelihood without a text.
    """
    unseen = records[records["group"] == "unseen"]
    choices = {(task_name(item), item.item_id): item.choices for item in items}
    right = []
    for row in unseen.itertuples():
        options = choices[row.task_name, row.item_id]
        gains = np.asarray(row.loglikelihoods) - np.array([alone[option] for option in options])
        right.append(int(np.argmax(gains)) == row.gold)
    unseen = unseen.assign(right=right, pair=unseen["lang"] + "->" + unseen["target_lang"])
    taken = Taken(precision=precision, null=False)
    if len(unseen):
        yield _accuracy(unseen, NAME, taken)
    for grain, part in unseen.groupby("grain"):
        yield _accuracy(part, f"{NAME}_{grain}", taken)
    for lang, part in unseen.groupby("lang"):
        yield _accuracy(part, NAME, taken, str(lang))


def _accuracy(records: pd.DataFrame, name: str, taken: Taken, lang: str = "") -> Measure:
    codes = [torch.tensor(pd.factorize(records[column])[0]) for column in ("pair", "task")]
    right = torch.tensor(records["right"].tolist(), dtype=torch.bool)
    return measure(name, [right, *codes], taken, len(records), lang=lang)
