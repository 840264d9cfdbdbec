"""``ecr-bench compare A B``: two arms or cells of finished runs, paired by item."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from ecr_bench.errors import UserError, unknown
from ecr_bench.evaluation.records import read_records
from ecr_bench.report.arms import SPLITS, ordered_precisions
from ecr_bench.report.tables import Table, percent, short_p
from ecr_bench.statistics.paired import Comparison, compare_units
from ecr_bench.statistics.panel import Panel, arm_name, build_panel
from ecr_bench.statistics.words import interval, points

ITEM = ["task_name", "item_id"]
CONTENT = ["task", "lang", "target_lang", "cluster", "gold"]
"""Two runs share an item when its name and all of this agree."""


@dataclass(frozen=True)
class Reference:
    """``runs/quick:ecr-1x:int8``: a run folder, an arm or a cell in it, and a precision."""

    folder: Path
    name: str
    precision: str | None


def parse_reference(text: str) -> Reference:
    """Split at colons; UserError shows the form."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise UserError(f"{text!r}: write FOLDER:ARM or FOLDER:ARM:PRECISION, for example runs/quick:ecr-1x:int8")
    return Reference(Path(parts[0]), parts[1], parts[2] if len(parts) == 3 else None)


def compare_references(a: str, b: str) -> Table:
    """A minus B by split and task. UserError where one is not there or they share no item."""
    left, right = parse_reference(a), parse_reference(b)
    read = cache(lambda folder: read_records(folder / "records.parquet"))
    records = [read(ref.folder) for ref in (left, right)]
    picked = [_side(frame, ref) for frame, ref in zip(records, (left, right), strict=True)]
    same_run = left.folder.resolve() == right.folder.resolve()
    if same_run and picked[0] == picked[1]:
        raise UserError(f"{a!r} and {b!r} are the same cells")
    if same_run:
        together, prefixes = records[0], ("", "")
    else:
        together, prefixes = _shared(records[0], records[1], a, b), ("a ", "b ")
    lines = []
    for split in SPLITS:
        part = together[together["group"] == split]
        if part.empty:
            continue
        panel = build_panel(part)
        rows = [_rows(panel, units, prefix) for units, prefix in zip(picked, prefixes, strict=True)]
        lines += [_line(panel, split, task, *rows) for task in panel.tasks]
    caption = (
        f"a: {_shown(left, picked[0])}; b: {_shown(right, picked[1])}; accuracy in %, differences in points, "
        "not corrected for the number of tests; McNemar ignores clusters and seeds; MDD: minimum detectable difference"
    )
    columns = ("split", "task", "a", "b", "a - b (95 %)", "p", "McNemar", "MDD")
    return Table("Paired difference", columns, (tuple(lines),), caption)


Picked = frozenset[tuple[str, str, str, int]]
"""(method, size, precision, seed) of each cell."""


def pick(records: pd.DataFrame, name: str, folder: Path) -> Picked:
    """The cells an arm or cell name stands for, in every precision; UserError lists the names in ``folder``."""
    units = records[["cell", "method", "size", "precision", "seed"]].drop_duplicates()
    arms = units["method"].astype(str) + "-" + units["size"].astype(str)
    mine = units[(arms == name) | (units["cell"] == name)]
    if mine.empty:
        raise unknown(f"arm or cell in {folder}", name, {*arms, *units["cell"]})
    return frozenset((str(m), str(s), str(p), int(r)) for _, m, s, p, r in mine.itertuples(index=False))


def _side(records: pd.DataFrame, reference: Reference) -> Picked:
    """The same in one precision: the highest one unless given."""
    found = pick(records, reference.name, reference.folder)
    present = ordered_precisions({precision for _, _, precision, _ in found})
    precision = reference.precision or present[0]
    if precision not in present:
        raise unknown(f"precision of {reference.name} in {reference.folder}", precision, present)
    return frozenset(unit for unit in found if unit[2] == precision)


def _shared(left: pd.DataFrame, right: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Both runs on the items they share, arms named apart; UserError if there are none."""
    keys = [*ITEM, *CONTENT, "group"]
    items = left[keys].drop_duplicates().merge(right[keys].drop_duplicates(), on=keys)
    if items.empty:
        raise UserError(f"{a!r} and {b!r} share no items: compare runs of the same corpus, tasks and seen languages")
    frames = [_renamed(f.merge(items[ITEM], on=ITEM), prefix) for f, prefix in ((left, "a "), (right, "b "))]
    return pd.concat(frames, ignore_index=True)


def _renamed(records: pd.DataFrame, prefix: str) -> pd.DataFrame:
    return records.assign(method=prefix + records["method"].astype(str))


def _rows(panel: Panel, picked: Picked, prefix: str) -> list[int]:
    wanted = {(arm_name(prefix + method, size), precision, seed) for method, size, precision, seed in picked}
    return [row for row, unit in enumerate(panel.units) if tuple(unit) in wanted]


def _line(panel: Panel, split: str, task: str, rows_a: list[int], rows_b: list[int]) -> tuple[str, ...]:
    found: Comparison = compare_units(panel, rows_a, rows_b, task)
    means = [percent(sum(panel.mean(row, task) for row in rows) / len(rows)) for rows in (rows_a, rows_b)]
    difference = f"{points(found.value)} ({interval((found.low, found.high))})"
    return (split, task, *means, difference, short_p(found.p), short_p(found.mcnemar_p), percent(found.mdd))


def _shown(reference: Reference, picked: Picked) -> str:
    precision = next(iter(picked))[2]
    seeds = len(picked)
    return f"{reference.folder}:{reference.name} in {precision}, {seeds} seed{'s' * (seeds != 1)}"
