"""The simulation obeys what holds for any schedule, and runs stages in the order of the executor."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_bench.forecast.schedule import Workshop, longest_chain, simulate, with_costs
from ecr_bench.runner.execute import critical_path
from tests.helpers.forecasts import stages


@st.composite
def plans(draw: Any) -> tuple[list[list[int]], list[float]]:
    """Who reads whom, and seconds."""
    count = draw(st.integers(1, 8))
    needs = [draw(st.lists(st.integers(0, i - 1), max_size=2, unique=True)) if i else [] for i in range(count)]
    return needs, [draw(st.floats(0.01, 100)) for _ in range(count)]


@given(plans(), st.integers(1, 4))
@settings(max_examples=60)
def test_bounds_of_every_schedule(tmp_path_factory, plan, workers):
    needs, seconds = plan
    made = stages(tmp_path_factory.getbasetemp() / "log", needs)
    took = dict(zip(made, seconds, strict=True))
    found = simulate(made, took, Workshop(workers, threads=1, cores=8), dict.fromkeys(made, 10))
    chain, total = longest_chain(made, took), sum(seconds)
    slack = 1e-6 * total
    assert max(chain, total / workers) - slack <= found.seconds <= total + slack
    # any schedule that leaves no worker idle while it could work (Graham 1969)
    assert found.seconds <= total / workers + chain * (1 - 1 / workers) + slack
    assert found.memory == 10 * len(found.together) <= 10 * workers
    alone = simulate(made, took, Workshop(1, 1, 1))
    assert alone.seconds == pytest.approx(total)


def test_more_threads_than_cores_share_them(tmp_path):
    made = stages(tmp_path / "log", [[], []])
    took = dict.fromkeys(made, 10.0)
    assert simulate(made, took, Workshop(2, threads=1, cores=2)).seconds == pytest.approx(10)
    assert simulate(made, took, Workshop(2, threads=2, cores=2)).seconds == pytest.approx(20)


def test_the_longest_way_ahead_goes_first(tmp_path):
    made = stages(tmp_path / "log", [[], [], [], [2]])  # 2 -> 3 is the longest way
    took = dict(zip(made, [4.0, 4.0, 3.0, 5.0], strict=True))
    assert simulate(made, took, Workshop(2, 1, 2)).seconds == pytest.approx(8)
    in_another_order = [3.0 + 5.0 + 4.0]  # 0 and 1 first
    assert max(in_another_order) > 8


def test_what_is_done_takes_no_time(tmp_path):
    made = stages(tmp_path / "log", [[], [0]])
    (_, last) = made
    assert simulate(made, {last: 3.0}, Workshop(1, 1, 1)).seconds == longest_chain(made, {last: 3.0}) == 3.0


def test_measured_costs_order_the_run_and_change_no_stage(tmp_path):
    made = stages(tmp_path / "log", [[], []])
    first, second = made
    costed = with_costs(made, {second: 99.0})
    assert costed[second].cost == 99.0 and costed[first].cost == made[first].cost
    assert [stage.id for stage in costed.values()] == list(made)
    assert [stage.identity for stage in costed.values()] == [stage.identity for stage in made.values()]
    length = critical_path(costed)
    assert length[second] > length[first]
    assert all(a.settings == b.settings for a, b in itertools.zip_longest(costed.values(), made.values()))
