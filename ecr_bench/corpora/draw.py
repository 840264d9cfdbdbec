"""Which units of a corpus are held out, and how many rows each language gives."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from ecr_bench.corpora.rows import digest

TEST_SHARE, VALIDATION_SHARE = 0.15, 0.05
LEAST_TEST, LEAST_VALIDATION = 3, 10
"""Units of a stratum from which on one is drawn for the test, and one for validation."""


def splits_of_stratum(units: int) -> list[str]:
    """The splits of a stratum's units in the order they were drawn."""
    test = max(1, round(TEST_SHARE * units)) if units >= LEAST_TEST else 0
    validation = max(1, round(VALIDATION_SHARE * units)) if units >= LEAST_VALIDATION else 0
    return ["test"] * test + ["validation"] * validation + ["train"] * (units - test - validation)


def draw_splits(strata: Mapping[str, str], seed: int, kinds: Mapping[str, str] | None = None) -> dict[str, str]:
    """Draw a split for each unit: 80/5/15 train/validation/test inside each stratum.

    ``strata`` maps unit -> stratum. A stratum of at least ``LEAST_TEST`` units has a test unit, one of at least
    ``LEAST_VALIDATION`` a validation unit; smaller ones are all training. ``kinds`` (unit -> kind) spreads the test
    units over the kinds of a stratum, in an order of kinds that is the same for all strata, a kind's only unit last.
    The draw depends on the names and the seed, not on the order of the units.
    """
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for unit, stratum in strata.items():
        groups[stratum][kinds[unit] if kinds else ""].append(unit)
    result: dict[str, str] = {}
    for by_kind in groups.values():
        ranked: list[tuple[int, bytes, str]] = []
        for kind, units in by_kind.items():
            units.sort(key=lambda unit: digest(f"{seed}/unit/{unit}"))
            last = len(strata) if len(units) == 1 and kinds else 0
            ranked += [(index + last, digest(f"{seed}/kind/{kind}"), unit) for index, unit in enumerate(units)]
        drawn = splits_of_stratum(len(ranked))
        result |= {unit: split for (_, _, unit), split in zip(sorted(ranked), drawn, strict=True)}
    return result


def water_fill(capacity: Mapping[str, int], total: int) -> dict[str, int]:
    """Share ``total`` evenly; who has less gives all it has and the others share the rest."""
    quota: dict[str, int] = {}
    left = total
    ordered = sorted(capacity, key=lambda key: (capacity[key], key))
    for index, key in enumerate(ordered):
        quota[key] = min(capacity[key], math.ceil(left / (len(ordered) - index)))
        left -= quota[key]
    return quota
