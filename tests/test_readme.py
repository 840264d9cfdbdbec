"""README says what the published files say."""

from __future__ import annotations

import re
import runpy

import pytest

from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS
from ecr_bench.report.drawing import save
from ecr_bench.run import Run
from tests.helpers.outside import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUOTED = ("compressed", "compressed-own", "distill", "long", "quick", "quick-amd")
"""The runs whose numbers README quotes."""
NUMBER = re.compile(r"[+−]\d+\.\d|\b\d+\.\d(?= against| %)")


def test_it_is_short() -> None:
    assert len(README.split()) <= 900


@pytest.mark.parametrize("number", sorted(set(NUMBER.findall(README))))
def test_every_difference_and_accuracy_is_on_a_published_board(number) -> None:
    boards = [(ROOT / "results" / name / "board.md").read_text(encoding="utf-8") for name in QUOTED]
    assert any(re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", board) for board in boards)


def test_the_picture_is_drawn_from_the_run_that_is_quoted_first(tmp_path) -> None:
    first = re.search(r"results/(\w+)/board\.md", README)[1]
    save(Run.load(ROOT / "results" / first).figure("differences"), tmp_path / "answer.svg")
    assert (tmp_path / "answer.svg").read_bytes() == (ROOT / "docs" / "answer.svg").read_bytes()


def test_the_table_is_that_of_the_boards() -> None:
    table = re.search(r"<!-- answers:start -->\n(.*?)\n<!-- answers:end -->", README, re.S)[1]
    assert table == runpy.run_path(str(ROOT / ".ci" / "results.py"))["answers"](), "run: python .ci/results.py"


@pytest.mark.parametrize(
    ("run", "words"), [("long", "the gain is {}"), ("compressed", "**A compressed pretrained model: {}.**")]
)
def test_the_verdicts_are_those_of_the_boards(run: str, words: str) -> None:
    text = " ".join(README.split())
    assert words.format(Run.load(ROOT / "results" / run).board.verdict.answer) in text


def test_the_numbers_are_found() -> None:
    assert len(set(NUMBER.findall(README))) > 15


def test_the_method_of_ones_own_is_one() -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "METHODS.add" in block)
    try:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
        assert Recipe.of("few-codes", (), {"few-codes": {"distinct": 2}}).method.options.distinct == 2
    finally:
        METHODS.entries.pop("few-codes", None)


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
