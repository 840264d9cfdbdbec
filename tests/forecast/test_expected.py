"""From measurements to an expectation: same units, a step more or less, a line, or nothing."""

from __future__ import annotations

import pytest

from ecr_bench.forecast.expected import expect
from tests.helpers.forecasts import measurement


def test_nothing_is_known_of_what_was_not_measured():
    found = expect([], 10, "c")
    assert (found.seconds, found.memory, found.disk, found.flops, found.known) == (None, None, None, None, False)


def test_one_more_step_costs_what_a_step_costs():
    found = expect([measurement(units=12, seconds=30, per_unit=0.5, memory=7, disk=9, flops_per_unit=100.0)], 1000, "c")
    assert found.seconds == pytest.approx(30 + 988 * 0.5)
    assert (found.memory, found.disk, found.flops) == (7, 9, 100_000.0)


def test_a_whole_stage_says_more_than_a_probe_and_the_median_is_taken():
    probed = measurement(units=12, seconds=3, per_unit=9.0)
    whole = [measurement(units=100, seconds=seconds, per_unit=0.1) for seconds in (10, 11, 60)]
    assert expect([probed, *whole], 100, "c").seconds == 11


def test_the_nearest_amount_counts_for_memory():
    probed, whole = measurement(units=12, seconds=3, memory=5), measurement(units=90, seconds=9, memory=8)
    assert expect([probed, whole], 100, "c").memory == 8


def test_a_peak_of_fewer_steps_is_the_least_it_takes_in_main_memory():
    probed, whole = measurement(units=12, seconds=3, memory=5), measurement(units=90, seconds=9, memory=8)
    assert expect([probed], 100, "c").least and expect([whole], 100, "c").least
    assert not expect([probed], 100, "c", on_gpu=True).least
    assert not expect([probed, whole], 90, "c").least and not expect([], 90, "c").least
    assert expect([measurement(kind="score", units=12, seconds=3, memory=5)], 100, "c", on_gpu=True).least
    assert not expect([measurement(units=12, seconds=3, memory=None)], 100, "c").least


@pytest.mark.parametrize(("shorter", "longer", "least"), [(5, 8, False), (9, 8, True), (8, 8, False)])
def test_of_two_that_are_as_near_the_one_with_the_larger_peak_counts(shorter, longer, least):
    found = [measurement(units=50, seconds=3, memory=shorter), measurement(units=200, seconds=9, memory=longer)]
    for order in (found, found[::-1]):
        expected = expect(order, 100, "c")
        assert (expected.memory, expected.least) == (max(shorter, longer), least)


def test_two_amounts_without_steps_make_a_line_and_one_makes_none():
    small, large = (measurement(kind="anchors", units=units, seconds=2 + units / 100) for units in (500, 2000))
    assert expect([small, large], 10_000, "c").seconds == pytest.approx(102)
    assert expect([small], 10_000, "c").seconds is None
    assert expect([small], 500, "c").seconds == pytest.approx(7)


def test_own_code_counts_before_other_code():
    old, new = measurement(code="old", seconds=50), measurement(code="new", seconds=5)
    assert expect([old, new], 10, "new").seconds == 5 and expect([old, new], 10, "new").same_code
    other = expect([old, new], 10, "newest")
    assert other.seconds == 27.5 and not other.same_code


def test_records_grow_with_items_and_models_do_not_with_steps():
    assert expect([measurement(kind="score", units=4, disk=100, per_unit=1.0)], 40, "c").disk == 1000
    assert expect([measurement(kind="train", units=4, disk=100, per_unit=1.0)], 40, "c").disk == 100
