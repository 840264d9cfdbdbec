"""Every benchmark runs (small, its numbers mean nothing), and its table says what was measured. No times here."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import shutil

import pytest

from benchmarks import corpus, forecast, harness
from benchmarks.harness import Options, Result, compared
from benchmarks.suite import NAMES, ON_DATA, run_suite
from benchmarks.table import Report, cells, circumstances
from ecr_bench.errors import UserError
from tests.helpers.forecasts import kept
from tests.helpers.public_sets import write_set


@pytest.fixture
def forked(monkeypatch):
    """A process that is measured starts at once, from one that has imported what it needs."""
    monkeypatch.setattr(harness, "START", "forkserver")
    multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmarks.losses", *corpus.PACKAGES])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_small_and_compares_like_with_like(name, tmp_path, forked):
    if name in ON_DATA:
        for task in ("xcopa", "sib200"):
            write_set(tmp_path, task)
    if name == "forecast":
        (tmp_path / "run").mkdir()
        kept().write(tmp_path / "run")
    if name == "page" and not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no chromium with chromedriver (Debian: apt-get install chromium chromium-driver)")
    results = list(importlib.import_module(f"benchmarks.{name}").run(Options(small=True, data=str(tmp_path))))
    assert results
    for result in results:
        assert 0 <= result.low <= result.value <= result.high
        # the same scores, losses, lengths; another k-means may well end elsewhere on a few rows
        assert not result.wrong or name == "anchors"
        json.dumps(result.beside)


@pytest.mark.slow
def test_the_suite_prints_writes_and_resumes(tmp_path, capsys):
    assert run_suite(["seeds"], False, True, tmp_path, 1, "cpu") == 0
    (row,) = json.loads((tmp_path / "speed.json").read_text())["benchmarks"]["seeds"]["rows"]
    assert row["met"] is True and row["what"][:40] in capsys.readouterr().out
    written = (tmp_path / "speed.json").read_text()
    assert run_suite(["seeds"], True, True, tmp_path, 1, "cpu") == 0
    assert (tmp_path / "speed.json").read_text() == written


def test_a_result_counts_only_when_nothing_is_wrong():
    faster = compared("a", "b", [2.0, 9.0, 3.0], need=2.5)
    assert (faster.value, faster.low, faster.high, faster.met) == (3.0, 2.0, 9.0, True)
    assert compared("a", "b", [3.0], need=2.5, wrong="other scores").met is False
    assert compared("a", "b", [1.04], need=1.03, at_least=False).met is False
    assert compared("a", "b", [1.02], need=1.03, at_least=False).met is True
    assert compared("a", "b", [9.0]).met is None


def test_one_benchmark_is_measured_again_and_the_others_are_kept(tmp_path):
    where = circumstances(1)
    assert where["machine"]["cpu"] and where["packages"]["torch"] and len(where["load average"]) == 3
    Report(tmp_path).put("scoring", [Result("x", "y", 3.0, 2.0, 4.0, 2.5)], "", 1.0, where)
    report = Report(tmp_path)
    report.put("page", [], "no browser", 0.1, where)
    text = report.markdown.read_text()
    assert "| x | y | 3.0x | 2.0–4.0 | ≥ 2.5x | yes |" in text and "not measured: no browser" in text
    assert cells(Result("x", "y", 1.5, 1.0, 2.0))[-2:] == ("–", "–")


def test_a_plan_is_off_by_a_factor_either_way(tmp_path):
    stage, whole, memory = forecast.compared(kept())
    assert (stage.value, stage.met) == (pytest.approx(1.2), True) and stage.beside["known"] == 1
    assert (whole.value, whole.met, whole.beside["measured s"]) == (pytest.approx(1.1), True, 110)
    assert (memory.value, memory.met) == (pytest.approx(1 / 0.95), True)
    (too_short,) = [r for r in forecast.compared(kept(expected=200.0)) if "whole" in r.what]
    assert (too_short.value, too_short.met) == (pytest.approx(200 / 110), False)
    assert not [r for r in forecast.compared(kept(expected=None)) if "whole" in r.what]
    with pytest.raises(UserError, match=r"no plan\.json"):
        list(forecast.run(Options(data=str(tmp_path))))
