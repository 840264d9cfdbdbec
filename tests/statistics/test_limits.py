"""What a comparison can detect, and what its wider limits cover, by simulation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import norm

from benchmarks.intervals import World, power_at_detectable, simulate_wider
from ecr_bench.statistics.interval import Covers, VarianceComponent, estimate_from
from tests.helpers.simulated import within

# --- what can be detected ------------------------------------------------------------------------


def test_what_can_be_detected_grows_with_the_tests_that_are_corrected_for() -> None:
    assert power_at_detectable(World(seeds=(2, 2), seed_sd=(0.1, 0.1)), 6, 1) is None  # more than there can be
    found = estimate_from(0.0, [VarianceComponent(1e-4, 5000)], Covers.ITEMS, largest=1.0)
    for tests in (1, 3, 40):  # large samples: the quantiles of level and power added up
        expected = 0.01 * (norm.ppf(1 - 0.025 / tests) + norm.ppf(0.8))
        assert found.detectable(tests) == pytest.approx(expected, rel=2e-3)
    assert found.mdd == found.detectable(1)
    assert estimate_from(0.0, [VarianceComponent(1.0, 1)], Covers.ITEMS, largest=1.0).mdd == 1.0


@pytest.mark.parametrize("tests", [1, 6])
def test_a_difference_as_large_as_can_be_detected_is_supported_in_four_of_five(tests: int) -> None:
    repeats = 150
    share = power_at_detectable(World(seeds=(3, 3), seed_sd=(0.05, 0.05)), tests, repeats)
    assert share is not None and 0.68 < share < 0.92


# --- new languages, new topics -------------------------------------------------------------------


def test_limits_for_new_languages_and_topics_cover_and_those_for_sentences_do_not() -> None:
    repeats = 150
    world = World(seeds=(3, 3), seed_sd=(0.02, 0.02), per_language=100)
    by_language = simulate_wider(replace(world, language_sd=0.3), repeats)
    assert within(by_language["new languages"][0], 0.93, 0.98, repeats)
    assert by_language["items and seeds"][0] < 0.85
    by_topic = simulate_wider(replace(world, topic_sd=0.4), repeats)
    assert within(by_topic["new topics"][0], 0.93, 0.98, repeats)
    assert by_topic["items and seeds"][0] < 0.85
    neither = simulate_wider(world, repeats)
    assert neither["new languages"][1] < 1.25 * neither["items and seeds"][1]
    assert all(covered > 0.9 for covered, _ in neither.values())
