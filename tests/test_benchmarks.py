"""Every benchmark runs (small, its numbers mean nothing), and its table says what was measured. No times here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import Result, compared
from benchmarks.suite import NAMES
from benchmarks.table import Report, cells, circumstances

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_all_run_and_write_their_table(tmp_path):
    """``page`` needs a browser; where there is none its line says so."""
    names = [name for name in NAMES if name != "page"]
    command = [sys.executable, "-m", "benchmarks", "--small", "--out", str(tmp_path), "--only", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "speed.json").read_text())["benchmarks"]
    assert list(parts) == names
    for name, part in parts.items():
        assert part["rows"] and not part["failure"], name
        for row in part["rows"]:
            assert row["what"] in done.stdout and 0 <= row["low"] <= row["value"] <= row["high"]
            # what is compared must be the same thing: scores, losses, sequences; k-means may differ on tiny data
            assert not row["wrong"] or name == "anchors", row["wrong"]
    markdown = (tmp_path / "speed.md").read_text()
    assert markdown.count("| yes |") + markdown.count("| **NO** |") == sum(
        row["met"] is not None for part in parts.values() for row in part["rows"]
    )


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
