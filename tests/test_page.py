"""The HTML report: what is in the file. How it behaves in a browser: test_page_browser.py."""

from __future__ import annotations

import json
import re
import shlex
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ecr_bench.arm import Arm
from ecr_bench.cli import main
from ecr_bench.config import load, parse_set
from ecr_bench.report.curves import read_curves, thin
from ecr_bench.report.lines import build_leaderboard, payload, percent_of, place
from ecr_bench.report.page import MOST_LINES, cost_table, render_page
from ecr_bench.report.svg import Axis, DotRow, Line, Mark, dot_plot, line_plot, linear_ticks, log_ticks
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.commands import arm_commands
from ecr_bench.results.schema import Board
from tests.page_sample import EVIL, sample_board, sample_page
from tests.world import arm, board_of, finished, make


@pytest.fixture(scope="module")
def board() -> Board:
    return sample_board()


@pytest.fixture(scope="module")
def text() -> str:
    return sample_page()


class Reader(HTMLParser):
    """Collects tags and attributes and checks that every element is closed in order."""

    VOID = {"meta", "input", "br", "link", "img"}

    def __init__(self, text: str):
        super().__init__()
        self.stack: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_page_is_whole_self_contained_and_escaped(text: str) -> None:
    reader = Reader(text)
    assert reader.stack == []
    tags = [tag for tag, _ in reader.found]
    assert not {"link", "img", "iframe", "object", "base"} & set(tags) and tags.count("script") == 2
    for _, attributes in reader.found:
        assert not {"src", "style"} & set(attributes) and not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in text and "url(" not in text
    assert "<script>window.pwned" not in text and "&lt;script&gt;window.pwned" in text


def test_every_part_is_there_and_says_what_it_shows(text: str) -> None:
    order = ["claims", "verdict", "leaderboard", "transfer", "controls", "precision", "ablation"]
    order += ["measures-1", "measures-2", "measures-3", "measures-4", "surface", "training", "protocol", "provenance"]
    assert re.findall(r'<section id="([a-z0-9-]+)"', text) == order
    assert text.count("<h1") == 1
    found = Reader(text).found
    assert all(a.get("aria-label") for tag, a in found if tag == "svg" and a.get("role") == "img")
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for tag, a in found if tag == "svg")
    assert all(a.get("scope") for tag, a in found if tag == "th")
    assert text.count("<caption") == text.count("<table")
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for tag, a in found if tag == "a"} <= {f"#{name}" for name in ids}


def test_verdict_words_come_from_the_board(board: Board, text: str) -> None:
    top = text[: text.index('id="leaderboard"')]
    assert board.verdict.question in top and escape(board.verdict.by_task["fine"].sentence) in top
    assert board.verdict.answer == "not attributable to anchors"
    assert '<p class="answer second">Not attributable to anchors.</p>' in top
    assert board.verdict.attributable is False and "controls speak against" in top


def test_claims_come_first_in_plain_words(text: str) -> None:
    top = text[text.index('id="claims"') : text.index('id="verdict"')]
    assert "Do the claims hold in this run?" in top and "ECR drifts less." in top
    for verdict in ("not attributable to anchors", "refuted", "supported", "not tested"):
        assert f'<p class="badge">{verdict}</p>' in top
    assert "not beaten: random" in top and "Not tested in this run (1)" in top
    assert "measures.json (ecr-1x-s0, cka_base" in top and "finetune+distill-1x is not in this run" in top


def test_measures_are_drawn_with_controls_and_null(text: str) -> None:
    part = text[text.index('id="measures-1"') : text.index('id="measures-2"')]
    assert "linear CKA with the base" in part and part.count('<svg class="chart"') == 2  # at the end, over steps
    assert part.count('class="reference"') == 2 and part.count('<polyline class="curve s0"') == 3  # random, 3 seeds
    marks = re.findall(r'<(?:circle|polygon) class="mark s([0-9])"', part)
    assert marks == ["1"] * 3 + ["3"] * 3 + ["0"] * 3  # a mark per seed: ecr-1x, finetune-1x, random-1x
    assert "<caption>Measures at the end" in part and "permutation null" in part
    across = text[text.index('id="measures-2"') : text.index('id="measures-3"')]
    assert "by language" in across and ">ja<" in across


def test_ablation_is_drawn(text: str) -> None:
    part = text[text.index('id="ablation"') : text.index('id="measures-1"')]
    assert part.count('class="mark s1"') >= 2 and "finetune-3x" in part and "control tokens" in part


def test_parts_without_data_are_left_out() -> None:
    alone = board_of(make({"finetune-1x": 0.5}, precisions=("int8",), items=5), baselines={}, provenance={})
    page = render_page(alone, [], {})
    assert "Not tested." in page and 'id="training"' not in page and 'id="controls"' not in page
    assert not any(f'id="{name}' in page for name in ("surface", "claims", "measures", "ablation"))
    assert page.count("<h1") == 1 and "Commands that repeat" not in page and Reader(page).stack == []


def test_static_lines_are_the_headline_best_first(board: Board) -> None:
    leaderboard = build_leaderboard(board, {})
    main_task = leaderboard.tasks.index("all")
    lines = leaderboard.default()
    assert {(x.split, x.precision) for x in lines} == {("unseen", "fp32")} and len(lines) == 10
    means = [score.mean for x in lines if (score := x.scores[main_task])]
    assert means == sorted(means, reverse=True) and len(means) == 10
    assert {x.arm: x.kind for x in lines}["oracle-1x"] == "upper bound"
    assert {x.arm: x.kind for x in lines}["codes-only-1x"] == "control"


def test_payload_holds_every_row_and_cannot_end_its_element(board: Board) -> None:
    leaderboard = build_leaderboard(board, {})
    raw = payload(leaderboard)
    assert "<" not in raw and ">" not in raw and "&" not in raw
    data = json.loads(raw)
    groups = [line for line in data["lines"] if data["texts"][line[3]] in data["splits"]]
    assert f"{EVIL}-1x" in data["texts"] and len(groups) * len(data["tasks"]) == len(board.rows)
    languages = {(row.arm, row.precision, row.lang) for row in board.by_language}
    assert len(data["lines"]) - len(groups) == len(languages) > 0
    assert {len(line) for line in data["lines"]} == {16 + 4 * len(data["tasks"])}
    row = next(
        r for r in board.rows if (str(r.arm), r.task, r.split, r.precision) == ("ecr-1x", "all", "unseen", "nf4")
    )
    wanted = [data["texts"].index(word) for word in ("ecr-1x", "nf4", "unseen")]
    line = next(x for x in data["lines"] if [x[0], x[2], x[3]] == wanted)
    start = 16 + 4 * data["tasks"].index("all")
    assert line[start : start + 3] == [round(1e6 * v) for v in (row.mean, *row.ci)]


@pytest.mark.parametrize(
    ("millionths", "shown"), [(523_000, "52.3"), (122_500, "12.3"), (0, "0.0"), (1_000_000, "100.0")]
)
def test_percent(millionths: int, shown: str) -> None:
    assert percent_of(millionths) == shown


def test_place_stays_on_the_scale() -> None:
    assert [place(v, 0, 1_000_000) for v in (-5, 0, 500_000, 1_000_000, 2_000_000)] == [40, 40, 600, 1160, 1160]


def test_commands_run_what_they_say() -> None:
    changed = load("quick").with_overrides({"finetune.steps": 7, "corpus.languages": ["en", "de"]})
    more = {"method": "ecr", "sizes": ("1x",), "seeds": (3,), "set": {"control_tokens.count": 8, "anchors.k": 16}}
    dump = changed.model_dump(mode="json")
    dump["cells"].append(more | {"sizes": ["1x"], "seeds": [3]})
    commands = arm_commands(board_of(make(precisions=("fp32",), items=4), provenance={"experiment": dump}))
    words = shlex.split(commands[Arm.of("ecr", "1x", {"anchors.k": 16, "control_tokens.count": 8})])
    assert words[:4] == ["ecr-bench", "run", "quick", "--set"]
    experiment = load(words[2]).with_overrides(parse_set(words[4:]))
    assert experiment.finetune.steps == 7 and experiment.corpus.languages == ("en", "de")
    assert [cell.model_dump() for cell in experiment.cells] == [more | {"with": (), "options": {}}]
    assert experiment.name == "quick-ecr-1x-anchors.k-16-control_tokens.count-8"
    assert [word.split("=")[0] for word in words[4:]] == ["corpus.languages", "finetune.steps", "name", "cells"]
    plain = load("quick").with_overrides(parse_set(shlex.split(commands[arm("finetune-3x")])[4:]))
    assert [(c.method, c.sizes, c.seeds) for c in plain.cells] == [("finetune", ("3x",), (0, 1))]


def test_commands_of_other_experiments_and_plugins() -> None:
    dump = load("quick").model_dump(mode="json") | {"name": "mine", "cells": [{"method": EVIL, "sizes": ["1x"]}]}
    (command,) = arm_commands(board_of(make(precisions=("fp32",), items=4), provenance={"experiment": dump})).values()
    assert command.startswith("ecr-bench run mine.yaml --set name=mine-") and command.endswith(" --plugin FILE.py")
    assert parse_set(shlex.split(command)[5:6])["cells"][0]["method"] == EVIL


def test_thin_keeps_ends_and_spikes() -> None:
    points = [(float(i), 100.0 if i == 777 else 1.0) for i in range(1000)]
    kept = thin(points, 50)
    assert len(kept) == 50 and kept[0] == (0.0, 1.0) and kept[-1] == (999.0, 1.0) and (777.0, 100.0) in kept
    assert thin(points[:50], 50) == tuple(points[:50])


def test_curves_are_read_back_from_tensorboard(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "ecr-1x-s0")) as writer:
        for step, value in enumerate([2.0, float("nan"), 1.0]):
            writer.add_scalar("train/loss", value, step)
        writer.add_scalar("epoch", 1, 0)
    (tmp_path / "empty").mkdir()
    assert read_curves(tmp_path) == {"ecr-1x-s0": {"train/loss": ((0.0, 2.0), (2.0, 1.0))}}
    assert read_curves(tmp_path / "missing") == {}


def test_ticks() -> None:
    assert linear_ticks(0.0, 1.0, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(-23.0, 41.0, 5) == [-20.0, 0.0, 20.0, 40.0] and linear_ticks(2.0, 2.0, 5) == [2.0]
    assert log_ticks(0.9, 11.0) == [1.0, 2.0, 5.0, 10.0] and log_ticks(1.0, 1e4) == [1.0, 10.0, 100.0, 1e3, 1e4]
    assert Axis(0, 1, percent=True).ticks()[1] == (0.2, "20") and Axis(-2, 2).label(-1) == "\N{MINUS SIGN}1"
    assert Axis(1, 100, log=True).place(10, 0, 50) == pytest.approx(25) and Axis(3, 3).place(3, 0, 50) == 25


def test_charts_escape_and_place() -> None:
    row = DotRow(EVIL, (Mark(0.5, 1, (0.0, 1.0), title=EVIL), Mark(1.0, 2, shape=2)))
    svg = dot_plot([DotRow("head"), row], Axis(0.0, 1.0), EVIL, "points", 0.5)
    assert "<script" not in svg and "<img" not in svg and Reader(svg).stack == []
    circle = re.search(r'<circle class="mark s1" cx="([\d.]+)"', svg)
    lines = [float(x) for x in re.findall(r'class="(?:reference|interval s1)" x1="([\d.]+)"', svg)]
    assert circle and float(circle[1]) == lines[0] > lines[1]
    curve = line_plot([Line(((1.0, 0.0), (2.0, 4.0), (3.0, 8.0)), 1)], "l", "step", log=True)
    assert len(re.findall(r"[\d.]+,[\d.]+", re.findall(r'points="([^"]*)"', curve)[0])) == 2


def test_cost_table_has_one_line_per_cell_and_shows_what_was_not_measured() -> None:
    fixed = {"arm": arm("ecr-1x"), "seed": 0, "precision": "fp32"}
    cell = CellCosts(**fixed, cell="a", parameters=2_000_000, train_seconds=4.0, tokens=8000, finite=False)
    table = cost_table([cell, cell.model_copy(update={"precision": "nf4"}), CellCosts(**fixed, cell="b")])
    assert table.sections[0][0] == ("a", "2.00M", "4.0", "8.0k", "2,000", "–", "–", "–", "yes")
    assert table.sections[0][1] == ("b", *["–"] * 8)


def test_long_tables_are_cut_and_say_so(board: Board) -> None:
    fixed = {"arm": arm("ecr-1x"), "seed": 0, "precision": "fp32"}
    cells = [CellCosts(**fixed, cell=f"cell-{i}") for i in range(MOST_LINES + 5)]
    page = render_page(board, cells, {})
    assert f"the first {MOST_LINES} of {MOST_LINES + 5} lines" in page and f"cell-{MOST_LINES}<" not in page


def test_report_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "x", "--out", str(tmp_path)])
    assert "no run in" in (said := capsys.readouterr().err) and "first: ecr-bench run x --out" in said
    finished(tmp_path / "quick", make(items=4))
    path = tmp_path / "quick" / "report.html"
    main(["report", "quick", "--out", str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(path) and path.read_text().startswith("<!doctype html>")
