"""The size at which a plain model is as good says the same as the differences beside it, from the same answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from ecr_bench.results.equal_size import STEPS, _between, equal_size
from ecr_bench.statistics.paired import compare, difference_of, estimate, kappa_of
from ecr_bench.statistics.panel import Panel, build_panel
from tests.helpers.world import answered, arm, items_of

SIZES = {"finetune-1x": 1.0, "finetune-3x": 3.0, "finetune-9x": 9.0}
PLAIN = [(arm(name), ratio) for name, ratio in SIZES.items()]
GAINS = (0.0, 0.1, 0.2)
BY_SEED = (0.5, 0.57, 0.64)


def panel_of(lost: float, seeds: Sequence[int] = (3, 3, 3)) -> Panel:
    """ECR answers as the smallest plain model does, seed by seed, but for a share ``lost`` of items that it gets wrong;
    larger plain models answer apart. Seeds differ, more than their items explain. ``seeds``: of each plain model."""
    rng = np.random.default_rng(0)
    items = items_of(200)
    wrong = rng.random(len(items)) < lost
    frames = []
    for name, gain, count in zip(SIZES, GAINS, seeds, strict=True):
        for seed, level in enumerate(BY_SEED[:count]):
            right = rng.random(len(items)) < level + gain
            answers = {name: right, "ecr-1x": right & ~wrong} if name == "finetune-1x" else {name: right}
            frames += [answered(items, r).assign(arm=who, seed=seed, precision="fp32") for who, r in answers.items()]
    records = pd.concat(frames, ignore_index=True)
    return build_panel(records[records["group"] == "unseen"])


@pytest.mark.parametrize("lost", [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("task", ["coarse", "fine", "all"])
def test_a_size_that_was_run_is_alike_exactly_where_0_lies_in_the_interval_of_its_difference(
    task: str, lost: float
) -> None:
    panel = panel_of(lost)
    found = equal_size(panel, "fp32", arm("ecr-1x"), PLAIN, task)
    for plain, ratio in PLAIN:
        difference = compare(panel, str(plain), "ecr-1x", "fp32", "fp32", task)
        inside = any(low <= ratio <= high for low, high in found.alike)
        assert inside == (difference.low <= 0 <= difference.high), plain


def test_seeds_that_both_share_do_not_hide_a_loss() -> None:
    """Taken to scatter apart, the two would not be told apart."""
    panel = panel_of(0.1)
    rows = panel.rows("ecr-1x", "fp32"), panel.rows("finetune-1x", "fp32")
    apart = estimate(panel, difference_of(*rows), "all", lowest=-1.0)
    assert kappa_of(panel, *rows, "all") < 0.5 and apart.low <= 0 <= apart.high
    found = equal_size(panel, "fp32", arm("ecr-1x"), PLAIN, "all")
    assert found.factor == 1 and not any(low <= 1 <= high for low, high in found.alike)


def test_what_seeds_share_changes_evenly_between_two_sizes() -> None:
    tried = list(_between([1.0, 3.0, 9.0], [[0], [1], [2]], [0.2, 1.0, 0.5]))
    kappas = [one.kappa for one in tried]
    assert kappas[::STEPS] == [0.2, 1.0, 0.5]
    assert np.abs(np.diff(kappas)).max() == pytest.approx(0.8 / STEPS)


@pytest.mark.parametrize("seeds", [(1, 3, 3), (3, 1, 3), (3, 3, 1)])
def test_one_seed_at_any_size_covers_items_only(seeds: tuple[int, ...]) -> None:
    found = equal_size(panel_of(0.1, seeds), "fp32", arm("ecr-1x"), PLAIN, "all")
    assert found.covers == "items" and found.sentence.endswith("(95 %, over items).")
    assert equal_size(panel_of(0.1), "fp32", arm("ecr-1x"), PLAIN, "all").covers == "items and seeds"
