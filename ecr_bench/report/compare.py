"""``ecr-bench compare A B`` as a table."""

from __future__ import annotations

from collections.abc import Sequence

from ecr_bench.report.tables import Table, percent, short_p
from ecr_bench.results.compare import Difference
from ecr_bench.results.words import interval, points


def compare_table(lines: Sequence[Difference], a: str, b: str) -> Table:
    """One line per split and task; ``a`` and ``b``: what was compared, in words."""
    caption = (
        f"a: {a}; b: {b}; accuracy in %, differences in points, "
        "not corrected for the number of tests; McNemar ignores clusters and seeds; MDD: minimum detectable difference"
    )
    columns = ("split", "task", "a", "b", "a - b (95 %)", "p", "McNemar", "MDD")
    return Table("Paired difference", columns, (tuple(_line(line) for line in lines),), caption)


def _line(line: Difference) -> tuple[str, ...]:
    found = line.found
    difference = f"{points(found.value)} ({interval((found.low, found.high))})"
    means = percent(line.mean_a), percent(line.mean_b)
    return (line.split, line.task, *means, difference, short_p(found.p), short_p(found.mcnemar_p), percent(found.mdd))
