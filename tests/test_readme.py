"""README says what the published files say."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS
from ecr_bench.report.drawing import save
from ecr_bench.run import Run
from tests.helpers.outside import ROOT
from tests.helpers.prose import estimates, stated

README = (ROOT / "README.md").read_text(encoding="utf-8")
BOARD = re.compile(r"results/([\w-]+/(?:board|ablation)\.md)")
NUMBER = re.compile(r"[+−]\d+\.\d to [+−]\d+\.\d|[+−]\d+\.\d|\b\d+\.\d(?= against| %)")


def test_it_is_short() -> None:
    assert len(README.split()) <= 900


def test_the_plugin_that_it_shows_is_one_and_its_command_ranks_it(tmp_path: Path) -> None:
    """In a process of its own: a plugin stays loaded."""
    (block,) = [part for part in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "METHODS.add" in part]
    (tmp_path / "mine.py").write_text(block)
    words = shlex.split(re.search(r"`(ecr-bench run quick --plugin mine\.py .*?)` ranks it", README)[1])
    given = [word for before, word in pairwise(words) if before == "--set"]
    script = (
        "import sys\nfrom ecr_bench.config import load, parse_set\nfrom ecr_bench.plugins import load_plugins\n"
        "from ecr_bench.runner.plan import make_plan\nload_plugins(('mine.py',))\n"
        "print(*(cell.label for cell in make_plan(load('quick').with_overrides(parse_set(sys.argv[1:]))).cells))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *given], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "few-codes-1x-s0 finetune-3x-s0\n"), done.stderr


def without_tables(text: str) -> str:
    """Without those that another test compares."""
    return re.sub(r"<!-- (\w+):start -->.*?<!-- \1:end -->", "", text, flags=re.S)


def paragraphs(text: str) -> Iterator[tuple[str, Callable[[int], str]]]:
    """Each paragraph or point of a list, and what says which board a place in it quotes: that which it links to next,
    else the last, else the first of all."""
    text = without_tables(text)
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", text):
        links = [(link.start(), link[1]) for link in BOARD.finditer(paragraph)] or [(0, BOARD.search(text)[1])]
        yield paragraph, partial(_linked, links)


def _linked(links: list[tuple[int, str]], place: int) -> str:
    return next((run for at, run in links if at > place), links[-1][1])


def quoted(text: str) -> list[tuple[str, str]]:
    """(number, board that says it)."""
    return sorted(
        {(found[0], board(found.start())) for part, board in paragraphs(text) for found in NUMBER.finditer(part)}
    )


def quoted_estimates(text: str) -> list[tuple[str, str, str]]:
    """(difference, interval, board that says both)."""
    return sorted(
        {(one.difference, one.interval, board(one.at)) for part, board in paragraphs(text) for one in stated(part)}
    )


@pytest.mark.parametrize(("number", "board"), quoted(README))
def test_every_difference_interval_and_accuracy_is_on_the_board_it_is_quoted_from(number, board) -> None:
    text = (ROOT / "results" / board).read_text(encoding="utf-8")
    assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text)


def test_a_number_is_of_the_run_beside_it() -> None:
    text = "A +1.0 ([a](results/a/board.md)), +2.0 ([b](results/b/board.md)) and +3.0.\n\nThen +4.0.\n"
    assert quoted(text) == [
        ("+1.0", "a/board.md"), ("+2.0", "b/board.md"), ("+3.0", "b/board.md"), ("+4.0", "a/board.md"),
    ]  # fmt: skip


@pytest.mark.parametrize(("difference", "interval", "board"), quoted_estimates(README))
def test_every_interval_is_quoted_behind_its_own_difference(difference: str, interval: str, board: str) -> None:
    text = (ROOT / "results" / board).read_text(encoding="utf-8")
    assert (difference, interval) in estimates(text)


def test_an_interval_is_of_the_run_beside_it() -> None:
    text = "1.0 ahead (+0.5 to +1.5; [a](results/a/board.md)), **+2.0** [+1.0\nto +3.0] ([b](results/b/board.md)).\n"
    assert quoted_estimates(text) == [
        ("+1.0", "+0.5 to +1.5", "a/board.md"), ("+2.0", "+1.0 to +3.0", "b/board.md"),
    ]  # fmt: skip


def test_points_of_a_list_have_boards_of_their_own() -> None:
    text = "([a](results/a/board.md))\n\n- One +1.0.\n- Two +2.0,\n  [b](results/b/ablation.md).\n"
    assert quoted(text) == [("+1.0", "a/board.md"), ("+2.0", "b/ablation.md")]


def test_no_interval_is_overlooked() -> None:
    ends = re.findall(r"(?<=\bto )[+−]\d", " ".join(without_tables(README).split()))
    assert len(ends) == sum(len(stated(part)) for part, _ in paragraphs(README)) > 10


def test_the_picture_is_drawn_from_the_run_that_is_quoted_first(tmp_path) -> None:
    first = BOARD.search(README)[1]
    save(Run.load((ROOT / "results" / first).parent).figure("differences"), tmp_path / "answer.svg")
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
    assert len(quoted(README)) > 15 and {board for _, board in quoted(README)} >= {
        "long/board.md", "quick/board.md", "compressed/board.md",
    }  # fmt: skip


def test_the_method_of_ones_own_is_one() -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "METHODS.add" in block)
    try:
        exec(compile(code, "<code of README.md>", "exec"), {"__name__": "readme"})
        assert Recipe.of("few-codes", (), {"few-codes": {"distinct": 2}}).method.options.distinct == 2
    finally:
        METHODS.entries.pop("few-codes", None)


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
