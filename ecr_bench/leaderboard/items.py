"""Whether two runs answered the same questions."""

from __future__ import annotations

import pandas as pd

from ecr_bench.io import fingerprint

KEY = ["task_name", "item_id"]
TOLD = ["task", "grain", "group", "lang", "target_lang", "cluster", "topic", "gold"]


def hash_of(records: pd.DataFrame) -> str:
    """Fingerprint of the items that ``records`` answer: all they tell of them, whoever answered and in what order."""
    table = records.drop_duplicates(KEY).set_index(KEY).sort_index()
    items = table[TOLD].assign(options=[",".join(map(str, sizes)) for sizes in table["choice_bytes"]])
    return fingerprint(items.reset_index().astype(str).to_dict("split")["data"])
