"""results/README.md says what the published files say."""

from __future__ import annotations

import re
import runpy

import pytest

from ecr_bench.verify import verify
from tests.helpers.outside import ROOT

RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
TABLES = runpy.run_path(str(ROOT / ".ci" / "results.py"))
RUNS = sorted(path.parent.name for path in RESULTS.glob("*/run.json"))
SECTIONS = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
TABLE = re.compile(r"<!-- (\S+):start -->\n(.*?)\n<!-- \1:end -->", re.S)
NUMBER = re.compile(r"(?<![\d.])[+−]?\d+\.\d+")


def prose_of(run: str) -> str:
    """The section of a run without the table that is made of it."""
    return TABLE.sub("", SECTIONS[run])


def test_every_published_folder_has_a_section_and_every_section_that_names_one_is_there() -> None:
    folders = {path.name for path in RESULTS.iterdir() if path.is_dir()}
    assert folders == set(SECTIONS)


@pytest.mark.parametrize("run", RUNS)
def test_every_number_about_a_run_is_on_its_board(run: str) -> None:
    board = (RESULTS / run / "board.md").read_text(encoding="utf-8")
    said = set(NUMBER.findall(prose_of(run)))
    assert said, f"nothing is said about {run}"
    lost = [n for n in said if not re.search(rf"(?<![\d.+−]){re.escape(n)}(?!\d)", board)]
    assert not lost, f"{run}: not on its board: {lost}"


@pytest.mark.parametrize("run", RUNS)
def test_every_verdict_of_a_run_heads_its_line(run: str) -> None:
    table = dict(TABLE.findall(PAGE))["overview"]
    (line,) = (line for line in table.splitlines() if f"[{run}]" in line)
    assert TABLES["line"](RESULTS / run) == tuple(entry.strip() for entry in line.strip("|").split("|"))


@pytest.mark.slow
def test_the_comparisons_are_those_of_the_records() -> None:
    found = dict(TABLE.findall(PAGE))
    for run in TABLES["PAIRS"]:
        assert found[run] == TABLES["comparisons"](run), "run: python .ci/results.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_published_run_follows_from_its_records(name: str) -> None:
    assert len(verify(RESULTS / name)) > 3
