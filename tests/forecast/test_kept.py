"""Plan against measured, in words and on disk."""

from __future__ import annotations

import pytest

from ecr_bench.errors import UserError
from ecr_bench.forecast.expected import Expected
from ecr_bench.forecast.kept import FILE, compared, read_kept
from ecr_bench.forecast.outlook import line_of
from ecr_bench.formats import duration, off, size
from tests.helpers.forecasts import forecast, kept, measurement, stages


def test_what_is_written_is_read_and_anything_else_is_one_line(tmp_path):
    kept().write(tmp_path)
    assert read_kept(tmp_path) == kept()
    (tmp_path / FILE).write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"plan\.json: name"):
        read_kept(tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(UserError, match="no such file"):
        read_kept(tmp_path)


def test_lines_say_how_far_off_the_plan_was():
    assert kept().lines() == [
        "plan: 100 s expected, 110 s measured (+10 %)".replace("100 s", "2 min").replace("110 s", "2 min"),
        "plan: training stages +20 to +20 %; largest peak memory 1.0 GB expected, 950 MB measured",
    ]
    assert kept(expected=None).lines()[0] == "plan: 1 of 2 stages known before, 2 min measured"


def test_only_what_was_run_is_compared(tmp_path):
    made = stages(tmp_path / "log", [[], []])
    first, _ = made
    before = forecast(made, [Expected(seconds=4.0, memory=10), Expected(seconds=6.0)])
    found = compared("x", before, {first: measurement(seconds=5.0, memory=12)}, 5.5)
    (one,) = found.stages
    assert (one.off, one.memory_off) == (pytest.approx(0.25), pytest.approx(0.2))
    assert found.expected_seconds == 6.0 and found.seconds == 5.5


def test_the_line_of_a_plan(tmp_path):
    made = stages(tmp_path / "log", [[], [0]])
    known = forecast(made, [Expected(seconds=100.0, memory=10**9), Expected(seconds=200.0, memory=2 * 10**9)])
    assert line_of(known) == (
        "plan: 2 stages to run, about 5 min with 2 workers (critical path 5 min), 2.0 GB of memory"
    )
    probed = forecast(made, [Expected(seconds=100.0, memory=10**9, least=True), Expected(seconds=200.0, memory=1)])
    assert line_of(probed).endswith(", 1.0 GB of memory or more")
    half = forecast(made, [Expected(seconds=100.0), Expected()])
    assert line_of(half) == (
        "plan: 2 stages to run, 1 of them unknown on this machine: the first stages will tell; the other 1 are 2 min "
        "of work"
    )
    assert half.simulated is None and half.critical_path is None and half.disk is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes_and_differences():
    assert [size(n) for n in (0, 65e3, 1.52e6, 812e6, 3.1e9, None)] == [
        "0 bytes",
        "65 kB",
        "1.52 MB",
        "812 MB",
        "3.1 GB",
        "–",
    ]
    assert (off(10, 11), off(10, 8)) == ("+10 %", "-20 %")
