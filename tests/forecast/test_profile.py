"""Profiles: what is kept, what is read, and what is refused."""

from __future__ import annotations

import pytest

from ecr_bench.errors import UserError
from ecr_bench.forecast import profile
from ecr_bench.forecast.profile import KEPT, Profile, keep, kept_profile, named_profile, read_profile
from ecr_bench.io import read_json, write_json
from tests.helpers.forecasts import MACHINE, measurement


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))


def test_what_was_kept_is_there_again_and_once():
    one, other = measurement(), measurement(shape="other")
    assert not kept_profile(MACHINE).measurements
    keep(MACHINE, [one])
    keep(MACHINE, [one, other])
    assert set(kept_profile(MACHINE).measurements) == {one, other}
    elsewhere = MACHINE.model_copy(update={"cpu": "another"})
    assert not kept_profile(elsewhere).measurements
    less = MACHINE.model_copy(update={"memory": 1})  # a container with less is no other machine
    assert kept_profile(less).measurements and kept_profile(less).hardware == less


def test_of_very_many_the_last_ones_stay(monkeypatch):
    monkeypatch.setattr(profile, "MOST", 3)
    days = [measurement(date=f"2026-01-{day:02}", shape=str(day)) for day in (4, 1, 3, 2)]
    assert [one.shape for one in Profile(hardware=MACHINE).with_(days).measurements] == ["2", "3", "4"]


def test_of_many_alike_the_last_ones_stay():
    days = [measurement(date=f"2026-01-{day:02}", seconds=day) for day in range(1, 20)]
    kept = Profile(hardware=MACHINE).with_(days).measurements
    assert [one.seconds for one in kept] == list(range(20 - KEPT, 20))


def test_threads_are_part_of_the_hardware():
    found = Profile(hardware=MACHINE).with_([measurement(threads=n, seconds=n) for n in (0, 1, 2)])
    assert [one.threads for one in found.of("s", 1)] == [0, 1] and not found.of("t", 1)
    assert not found.of(None, 1)


def test_a_damaged_cache_is_as_good_as_none(tmp_path):
    keep(MACHINE, [measurement()])
    (path,) = (tmp_path / "cache" / "forecast").glob("*.json")
    path.write_text("{")
    assert not kept_profile(MACHINE).measurements
    keep(MACHINE, [measurement()])
    assert kept_profile(MACHINE).measurements


@pytest.mark.parametrize("name", ["h100", "H100", "gpu", ""])
def test_hardware_that_nothing_was_measured_on_is_one_line(name):
    with pytest.raises(UserError, match=f"--hardware {name}: nothing is measured for it here: allowed are auto, cpu"):
        named_profile(name)


def test_profiles_are_read_from_files_alone(tmp_path):
    assert named_profile("auto") is None and named_profile("cpu") is None
    path = tmp_path / "h100.json"
    with pytest.raises(UserError, match="no such file"):
        named_profile(str(path))
    write_json(path, Profile(hardware=MACHINE, measurements=(measurement(),)).model_dump(mode="json"))
    assert named_profile(str(path)) == read_profile(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"format": 9}, "format 9"), ({"measurements": 3}, "measurements"), ({"speed": 1}, "unknown key 'speed'")],
)
def test_a_file_that_is_no_profile_is_one_line(tmp_path, change, words):
    path = tmp_path / "p.json"
    write_json(path, Profile(hardware=MACHINE).model_dump(mode="json") | change)
    with pytest.raises(UserError) as caught:
        read_profile(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
    write_json(path, read_json(path)["hardware"])
    with pytest.raises(UserError, match=r"p\.json"):
        read_profile(path)
