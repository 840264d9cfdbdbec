"""results/README.md says what the published files say."""

from __future__ import annotations

import json
import re
import runpy
from typing import get_args

import pytest

from ecr_bench.errors import UserError
from ecr_bench.results.schema import Word
from ecr_bench.run import Run
from ecr_bench.verify import verify
from tests.helpers.outside import ROOT
from tests.helpers.prose import estimates, stated

RESULTS = ROOT / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
TABLES = runpy.run_path(str(ROOT / ".ci" / "results.py"))
RUNS = sorted(path.parent.name for path in RESULTS.glob("*/run.json"))
SECTIONS = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
TABLE = re.compile(r"<!-- (\S+):start -->\n(.*?)\n<!-- \1:end -->", re.S)
NUMBER = re.compile(r"(?<![\d.])[+−]?\d*\.\d+")


def prose_of(run: str) -> str:
    """The section of a run without the table that is made of it."""
    return TABLE.sub("", SECTIONS[run])


def test_every_published_folder_has_a_section_and_every_section_that_names_one_is_there() -> None:
    folders = {path.name for path in RESULTS.iterdir() if path.is_dir()}
    assert folders == set(SECTIONS)


def board_of(run: str) -> str:
    """What the run's own pages say."""
    texts = [RESULTS / run / name for name in ("board.md", "ablation.md")]
    return "\n".join(path.read_text(encoding="utf-8") for path in texts if path.is_file())


@pytest.mark.parametrize("run", RUNS)
def test_every_number_about_a_run_is_on_its_board(run: str) -> None:
    board = board_of(run)
    said = set(NUMBER.findall(prose_of(run)))
    assert said, f"nothing is said about {run}"
    lost = [n for n in said if not re.search(rf"(?<![\d.+−]){re.escape(n)}(?!\d)", board)]
    assert not lost, f"{run}: not on its board: {lost}"


@pytest.mark.parametrize("run", RUNS)
def test_every_interval_about_a_run_stands_behind_its_own_difference(run: str) -> None:
    board = estimates(board_of(run))
    lost = [one[:2] for one in stated(prose_of(run)) if one[:2] not in board]
    assert not lost, f"{run}: (difference, interval) not on its board: {lost}"


@pytest.mark.parametrize("run", [folder.name for folder in TABLES["published"]()])
def test_of_every_run_with_a_verdict_a_difference_is_said(run: str) -> None:
    assert stated(prose_of(run)), f"no difference with its interval is said about {run}"


def test_intervals_stand_only_where_they_are_compared() -> None:
    """In the sections of runs, and in the tables that are made of them."""
    assert {name for name, _ in TABLE.findall(PAGE)} == {"overview", *TABLES["PAIRS"]}
    rest = TABLE.sub("", PAGE)
    for run in RUNS:
        rest = rest.replace(prose_of(run), "")
    assert stated(rest) == []


BOARD = estimates("| a | +1.0 (+0.5 to +1.5) | b: +2.0 points, +1.0 to +3.0 |\n| c | −0.0 (−1.5 to +1.4) |")


@pytest.mark.parametrize(
    "text",
    [
        "+1.0 (+0.5 to +1.5; of new topics), +2.0\n(+1.0 to +3.0)",
        "**+1.0** (+0.5 to +1.5)",
        "+1.0 (95 %: +0.5 to +1.5)",
        "+1.0 [+0.5 to +1.5]",
        "+1.0, which is little (two seeds: +0.5\nto +1.5)",
        "1.0 points ahead of a plain model of 3 times its size (+0.5 to +1.5)",
        "2.0 above it (with 12.5 %, +1.0 to +3.0)",
        "0.0 (−1.5 to +1.4), +0.0 (-1.5 to +1.4)",
    ],
)
def test_a_difference_with_its_interval_is_held_however_it_is_written(text: str) -> None:
    assert {one[:2] for one in stated(text)} <= BOARD and stated(text)
    for difference, said in (("+1.0", "+1.1"), ("2.0", "2.1"), ("0.0", "0.2"), ("1.0 points", "1.1 points")):
        changed = text.replace(difference, said)
        assert changed == text or not {one[:2] for one in stated(changed)} <= BOARD, changed


@pytest.mark.parametrize(
    "text",
    [
        "+1.0 (+1.0 to +3.0)",
        "1.0 points behind (+0.5 to +1.5)",
        "a lead of 1.0 (+0.5 to +1.5)",
        "+1.0 (+0.5 to +1.5), a lead of 1.1 (two seeds: +0.5 to +1.5)",
        "+1.0 in all\n- on fine tasks (+0.5 to +1.5)",
        "+1.0 in all\n\nOn fine tasks (+0.5 to +1.5)",
        "+1.0 (+0.5 to 1.5), and then +2.0 (0.0 to +3.0)",
        "+1.0 (+0.5 to +1.5) and on others (+1.0 to +3.0)",
    ],
)
def test_an_interval_without_its_difference_is_found(text: str) -> None:
    assert not {one[:2] for one in stated(text)} <= BOARD


def test_ranges_of_other_things_are_no_intervals() -> None:
    assert stated("on fine tasks most (51.7 to 44.9), 2.3 to 4.2 times, 1 to 32 tokens, 39M+0.75M, 2026-11-26") == []


@pytest.mark.parametrize("run", [folder.name for folder in TABLES["published"]()])
def test_the_verdict_about_a_run_is_that_of_its_board(run: str) -> None:
    answer = Run.load(RESULTS / run).board.verdict.answer
    bold = [words.lower() for words in re.findall(r"\*\*([^*]+?):\*\*", prose_of(run))]
    assert [words for words in bold if words in get_args(Word)] == [answer]


@pytest.mark.parametrize("run", [name for name in RUNS if (RESULTS / name / "ablation.json").is_file()])
def test_an_ablation_that_has_a_verdict_says_it(run: str) -> None:
    answer = Run.load(RESULTS / run).board.verdict.answer
    bold = " ".join(re.findall(r"\*\*([^*]+?)\*\*", prose_of(run))).lower()
    assert answer == "not tested" or answer in bold


def test_every_number_about_layers_is_in_their_file() -> None:
    found = json.loads((RESULTS / "small" / "layers-gemma3-270m.json").read_text(encoding="utf-8"))["layers"]
    values = [value for layer in found for value in layer.values() if isinstance(value, float)]
    known = {f"{value:.{digits}f}"[1:] for value in values for digits in (2, 3)}
    assert set(NUMBER.findall(SECTIONS["small"])) <= known


def test_every_number_about_the_gpu_is_in_its_file() -> None:
    found = json.loads((RESULTS / "gpu" / "check.json").read_text(encoding="utf-8"))
    values = [
        v for part in ("training", "scoring") for row in found[part] for v in row.values() if isinstance(v, float)
    ]
    known = {text for value in values for text in (str(value), f"{value:.2f}"[1:])} | {"2.11"}
    assert found["packages"]["torch"].startswith("2.11")
    assert set(NUMBER.findall(SECTIONS["gpu"])) <= known
    assert found["tests"] == {"tests": 8, "failures": 0, "errors": 0, "skipped": 0} and not found["dry_run"]


@pytest.mark.parametrize("run", [folder.name for folder in TABLES["published"]()])
def test_every_verdict_of_a_run_heads_its_line(run: str) -> None:
    table = dict(TABLE.findall(PAGE))["overview"]
    (line,) = (line for line in table.splitlines() if f"[{run}]" in line)
    assert TABLES["line"](RESULTS / run) == tuple(entry.strip() for entry in line.strip("|").split("|"))


def test_a_page_without_a_tables_marks_is_no_place_for_it(tmp_path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# No marks\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"README\.md: no <!-- t:start -->"):
        TABLES["fill"](page, {"t": "| a |"})
    assert page.read_text(encoding="utf-8") == "# No marks\n"


@pytest.mark.slow
def test_the_comparisons_are_those_of_the_records() -> None:
    found = dict(TABLE.findall(PAGE))
    for run in TABLES["PAIRS"]:
        assert found[run] == TABLES["comparisons"](run), "run: python .ci/results.py"


@pytest.mark.parametrize("name", [pytest.param(run, marks=pytest.mark.slow) if run == "long" else run for run in RUNS])
def test_every_published_run_follows_from_its_records(name: str) -> None:
    assert len(verify(RESULTS / name)) > 3
