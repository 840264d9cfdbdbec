"""The HTML report: what is in the file. How it behaves in a browser: test_page_browser.py."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ecr_bench.arm import Arm
from ecr_bench.cli import main
from ecr_bench.report.page import MOST_LINES, SHOWN, Leaderboard, _id, render_page
from ecr_bench.results.commands import arm_commands
from ecr_bench.run import Run
from tests.helpers.page_sample import EVIL, without_ablation
from tests.helpers.world import finished, make, run_of

ORDER = [
    "verdict", "leaderboard", "controls", "precision", "training", "transfer", "claims", "measures-drift",
    "measures-cross-lingual", "measures-stability", "measures-other-measures", "surface", "protocol", "provenance",
]  # fmt: skip


class Reader(HTMLParser):
    """Collects tags, attributes and the cells of the leaderboard; checks that every element is closed in order."""

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


def sections(text: str) -> list[str]:
    found = re.findall(r'<section id="([a-z0-9-]+)"', text)
    return [re.sub(r"-[0-9a-f]{6}$", "", name) for name in found]


def part(text: str, name: str) -> str:
    """One section."""
    start = re.search(rf'<section id="{name}', text)
    assert start
    return text[start.start() : text.index("</section>", start.start())]


def test_page_is_whole_self_contained_and_escaped(text: str) -> None:
    reader = Reader(text)
    assert reader.stack == []
    tags = [tag for tag, _ in reader.found]
    assert not {"link", "img", "iframe", "object", "base"} & set(tags) and tags.count("script") == 3
    for _, attributes in reader.found:
        assert not {"src", "style"} & set(attributes) and not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in text and "url(" not in text and "http://" not in text
    assert "<script>window.pwned" not in text and "&lt;script&gt;window.pwned" in text


def test_an_ablation_is_the_same_page_with_its_own_question_first(text: str) -> None:
    assert sections(text) == ["ablation", *ORDER] and sections(render_page(without_ablation())) == ORDER
    first = part(text, "ablation")
    assert "What does “control tokens” change?" in first and "finetune-3x" in first and "<h1" in first
    assert first.count('fill="var(--s1)"') >= 2


def test_every_part_says_what_it_shows(text: str) -> None:
    assert text.count("<h1") == 1
    found = Reader(text).found
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, a in found:
        if tag == "svg":
            named = (a.get("aria-labelledby") or "").split()
            assert a.get("aria-hidden") == "true" or (a.get("role") == "img" and len(named) == 2 and {*named} <= {*ids})
    assert all(a.get("scope") for tag, a in found if tag == "th")
    assert text.count("<caption") == text.count("<table")
    assert {a["href"] for tag, a in found if tag == "a"} <= {f"#{name}" for name in ids}


def test_the_first_screen_is_question_verdict_one_figure_and_cost(run: Run) -> None:
    text, verdict = render_page(without_ablation()), run.board.verdict
    top = part(text, "verdict")
    marks = [
        html.escape(verdict.question), '<p class="answer">Not attributable to anchors.</p>',
        html.escape(verdict.by_task["all"].sentence), "Coarse tasks: <b>not attributable to anchors</b>",
        "controls speak against", "<figure>", "Cost: ecr-1x: 0.99M parameters (+0.40M in projection and anchors), "
        "+4 tokens an item", "1 supported, not attributed, 1 refuted", "The verdict in full",
        html.escape(verdict.by_task["fine"].sentence),
    ]  # fmt: skip
    places = [top.index(mark) for mark in marks]
    assert places == sorted(places) and verdict.attributable is False


def test_claims_are_told_in_plain_words(text: str) -> None:
    shown = part(text, "claims")
    assert "Do the claims hold in this run?" in shown and "ECR drifts less." in shown
    for verdict in ("not attributable to anchors", "refuted", "supported, not attributed", "not tested"):
        assert f'<p class="badge">{verdict}</p>' in shown
    assert "not beaten: random" in shown and "Not tested in this run (1)" in shown
    assert "measures.json (ecr-1x-s0, cka_base" in shown and "finetune+distill-1x is not in this run" in shown


def test_measures_are_drawn_with_controls_and_null(text: str) -> None:
    drift = part(text, "measures-drift")
    assert "linear CKA with the base" in drift
    final, over_steps = (svg for svg in re.findall(r"<svg.*?</svg>", drift) if 'role="img"' in svg)
    assert final.count("stroke-dasharray") == over_steps.count("stroke-dasharray") == 1  # the null
    tips = re.findall(r"<g><title>(seed \d): [\d.]+</title><\w+ [^>]*?fill=\"var\(--(s\d)\)\"", final)
    assert [style for _, style in tips] == ["s1"] * 3 + ["s3"] * 3 + ["s0"] * 3  # ecr-1x, finetune-1x, random-1x
    assert over_steps.count('stroke="var(--s0)"') == 3  # random-1x, 3 seeds
    assert "<caption>Measures at the end" in drift and "permutation null" in drift
    across = part(text, "measures-cross-lingual")
    assert "by language" in across and ">ja<" in across


def test_parts_without_data_are_left_out() -> None:
    page = render_page(run_of(make({"finetune-1x": 0.5}, precisions=("int8",), items=5), baselines={}, provenance={}))
    assert sections(page) == ["verdict", "leaderboard", "precision", "transfer", "protocol", "provenance"]
    assert "Not tested." in page and "Cost:" not in page and "Commands that repeat" not in page
    assert page.count("<h1") == 1 and Reader(page).stack == []


def texts(row: str) -> list[str]:
    """What the cells of a row of the leaderboard say."""
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
    return [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in cells]


def test_the_leaderboard_has_every_row_and_shows_the_headline_best_first(run: Run) -> None:
    board = Leaderboard(run.board, {})
    groups, single = ([x for x in board.lines if x.single is kind] for kind in (False, True))
    assert len(groups) * len(board.tasks) == len(run.board.rows)
    assert len(single) == len({(row.arm, row.precision, row.lang) for row in run.board.by_language}) > 0
    assert {(x.place, x.precision) for x in board.first} == {("unseen", "fp32")} and len(board.first) == 10
    means = [float(x.entries[board.tasks.index("all")].key) for x in board.first]  # type: ignore[arg-type]
    assert means == sorted(means, reverse=True)
    assert {str(x.arm): x.kind for x in board.first} == {
        **dict.fromkeys(("ecr-1x", "finetune-1x", "finetune-3x", f"{EVIL}-1x"), "contender"),
        **dict.fromkeys((f"{c}-1x" for c in ("random", "constant", "language", "shuffled", "codes-only")), "control"),
        "oracle-1x": "upper bound",
    }


def test_rows_and_keys_of_the_script_say_the_same(run: Run) -> None:
    board = Leaderboard(run.board, {})
    rows, keys = board.rows.split("\n"), json.loads(board.keys)
    assert len(rows) == len(keys) == len(board.lines) and board.shown.count("<tr") == 10
    for row, (arm, precision, place, size, kind, single, order) in zip(rows, keys, strict=True):
        cells = texts(row)
        assert cells[0] == arm + (kind if kind != "contender" else "") and cells[1:3] == [precision, place]
        assert len(order) == len(cells) - 1 and order[:3] == [arm, board.precisions.index(precision), place]
        for cell, key in zip(cells[3 : 3 + len(board.tasks)], order[3:], strict=False):
            assert cell.split(" ")[0] == ("–" if key is None else f"{100 * key:.1f}")
        assert arm.endswith(size) and bool(single) == (place not in board.groups)
        assert (order[-7] is None) == bool(single) and cells[-3] == str(order[-2])
    row = next(r for r in run.board.rows if (str(r.arm), r.task, r.precision) == ("ecr-1x", "all", "nf4"))
    line = next(x for x in board.lines if (str(x.arm), x.precision, x.place) == ("ecr-1x", "nf4", row.group))
    assert line.entries[board.tasks.index("all")].key == row.mean
    assert line.entries[len(board.tasks) + 1].key == 1_390_000  # parameters with projection and anchors


def test_bars_lie_on_one_scale(run: Run) -> None:
    board = Leaderboard(run.board, {})
    row = next(r for r in run.board.rows if (str(r.arm), r.task, r.precision) == ("ecr-1x", "all", "nf4"))
    line = next(x for x in board.lines if (str(x.arm), x.precision, x.place) == ("ecr-1x", "nf4", row.group))
    whole = board.high - board.low
    wanted = [round(100 * (v - board.low) / whole) for v in (row.mean, *row.ci, row.chance)]
    assert 'class="s g m{} l{} h{} c{}"'.format(*wanted) in line.entries[board.tasks.index("all")].html
    assert all(0 <= int(place) <= 100 for place in re.findall(r"\b[mlhc](-?\d+)\b[^<]*>", board.rows))
    assert f".m{wanted[0]}{{--m:{wanted[0]}}}" in render_page(without_ablation())


def test_more_lines_than_are_shown_wait_as_text_that_ends_nothing() -> None:
    made = run_of(make(items=4))
    rows = [r for r in made.board.rows if (str(r.arm), r.group, r.precision) == ("finetune-1x", "unseen", "fp32")]
    names = [f"{EVIL}\n<!--{i}" for i in range(SHOWN + 5)]
    more = [r.model_copy(update={"arm": Arm(name, "1x")}) for name in names for r in rows]
    board = Leaderboard(made.board.model_copy(update={"rows": more, "by_language": []}), {})
    assert board.shown.count("<tr") == SHOWN and len(board.rows.split("\n")) == SHOWN + 5
    for text in (board.rows, board.keys):
        assert not re.search("<script|</script|<!--", text)
    assert json.loads(board.keys)[0][0] == f"{names[0]}-1x"


def test_every_arm_links_to_the_command_that_repeats_it(run: Run, text: str) -> None:
    commands = arm_commands(run.board)
    assert Arm("ecr", "1x") in commands
    linked = {a["href"] for tag, a in Reader(part(text, "leaderboard")).found if tag == "a"}
    assert linked == {f"#repeat-{_id(arm)}" for arm in commands} & linked and f"#repeat-{_id('ecr-1x')}" in linked
    assert "ecr-bench run quick --set name=quick-ecr-1x " in part(text, "provenance")


def test_ids_are_safe_and_tell_names_apart() -> None:
    names = ["ecr-1x", "ECR-1x", "a b", "a-b", EVIL, "é", "x" * 100, "x" * 101]
    found = [_id(name) for name in names]
    assert len(set(found)) == len(names) and all(re.fullmatch(r"[a-z0-9-]+", name) for name in found)
    assert found[0] == "ecr-1x"


def test_long_tables_are_cut_and_say_so(run: Run) -> None:
    cells = [run.cells[0].model_copy(update={"cell": f"cell-{i}"}) for i in range(MOST_LINES + 5)]
    page = render_page(replace(without_ablation(), cells=cells, measures=[]))
    assert f"the first {MOST_LINES} of {MOST_LINES + 5} lines" in page and f"cell-{MOST_LINES}<" not in page


def test_report_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", "x", "--out", str(tmp_path)])
    assert "no run in" in (said := capsys.readouterr().err) and "first: ecr-bench run x --out" in said
    finished(tmp_path / "quick", make(items=4))
    path = tmp_path / "quick" / "report.html"
    main(["report", "quick", "--out", str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(path) and path.read_text().startswith("<!doctype html>")
