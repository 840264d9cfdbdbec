"""What a verdict must rest on, and that every rendering says the same word and the same p."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from ecr_bench.arm import Arm, Role, by_name
from ecr_bench.config import load
from ecr_bench.formats import p_in_words
from ecr_bench.report.export import to_markdown
from ecr_bench.report.page import render_page
from ecr_bench.report.terminal import print_run
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.results.contrasts import GAINS
from ecr_bench.results.evidence import Facts
from ecr_bench.results.judgement import Standing, Thresholds, judge_difference, word_of
from ecr_bench.results.roles import REQUIRED_CONTROLS, attribute
from ecr_bench.results.schema import Board, Contrast
from ecr_bench.results.timings import Timing
from ecr_bench.run import Run
from tests.helpers.world import ALL_CONTROLS, LEVELS, QUICK, Made, arm, board_of, make, run_of

CLEAR = LEVELS | ALL_CONTROLS
"""ECR at .75 is far ahead of everybody."""


def judged(made: Made, board: Board | None = None, **more: Any) -> ClaimsReport:
    board = board or board_of(made)
    facts = Facts.of(made.records, made.arms, made.cells, (), QUICK, contrasts=board.contrasts, **more)
    return judge("quick", facts, shipped_claims())


def claim(report: ClaimsReport, name: str = "beats-3x") -> ClaimResult:
    return next(result for result in report.results if result.claim.id == name)


def headline(board: Board, task: str = "all") -> Contrast:
    return next(c for c in board.contrasts if (c.family, c.group, c.task) == ("headline", "unseen", task))


def same_word(made: Made) -> str:
    """The word of the headline, after checking that board, verdict and claim agree on it."""
    board = board_of(made)
    words = {headline(board).verdict, board.verdict.answer, board.verdict.by_task["all"].answer}
    words.add(claim(judged(made, board)).verdict)
    assert len(words) == 1, words
    return words.pop()


# --- what a verdict rests on -------------------------------------------------------------------------


def test_a_clear_gain_over_everybody_is_supported() -> None:
    assert same_word(make(CLEAR)) == "supported"


@pytest.mark.parametrize("missing", [REQUIRED_CONTROLS, *((name,) for name in REQUIRED_CONTROLS)])
def test_without_controls_nothing_is_attributed(missing: tuple[str, ...]) -> None:
    made = make(
        {name: level for name, level in CLEAR.items() if name not in {f"{c}-1x" for c in missing}}, precisions=("fp32",)
    )
    board = board_of(made)
    assert same_word(made) == "supported, not attributed" and board.verdict.attributable is None
    gains = [c for c in board.contrasts if c.family in GAINS]
    assert {c.verdict for c in gains} == {"supported, not attributed"}
    result = claim(judged(made, board))
    assert result.untested_controls == missing and f"for lack of {', '.join(missing)}" in result.sentence
    for text in renderings(made, board, judged(made, board)).values():
        assert "supported, not attributed" in text.lower()


def test_one_seed_supports_nothing() -> None:
    made = make(CLEAR, seeds=1)
    assert same_word(made) == "inconclusive"
    board = board_of(made)
    assert "has one seed, which supports nothing" in headline(board).sentence
    assert "has one seed" in claim(judged(made, board)).sentence
    assert {c.verdict for c in board.contrasts} == {"inconclusive"}


@pytest.mark.parametrize(("ecr", "plain"), [(0.25, 0.05), (0.05, 0.25), (0.25, 0.25)])
def test_an_arm_at_chance_beats_nobody(ecr: float, plain: float) -> None:
    made = make(CLEAR | {"ecr-1x": ecr, "finetune-3x": plain}, items=200)
    assert same_word(made) == "inconclusive"
    if ecr != plain:
        assert "shown to be above chance" in headline(board_of(made)).sentence


def test_the_rule_as_a_table() -> None:
    a, b = Standing(arm("ecr-1x"), 2), Standing(arm("finetune-3x"), 2)
    low_a, low_b = replace(a, reaches_chance=True), replace(b, reaches_chance=True)
    rule = lambda effect, x, y, p=0.01, q=0.9: judge_difference(effect, p, q, Thresholds(), x, y)  # noqa: E731
    assert rule(0.1, a, b).answer == "supported" and rule(-0.1, a, b).answer == "refuted"
    assert rule(0.1, a, b, 0.06).answer == "inconclusive" and rule(0.1, a, b, 0.06).obstacle == ""
    assert rule(0.1, low_a, b).answer == "inconclusive" and "ecr-1x is not shown" in rule(0.1, low_a, b).obstacle
    assert rule(0.1, a, low_b).answer == "supported"
    assert rule(-0.1, a, low_b).answer == "inconclusive" and rule(-0.1, low_a, b).answer == "refuted"
    assert rule(0.0, a, b, 0.9, 0.01).answer == "refuted"  # no gain that matters
    assert rule(0.0, low_a, low_b, 0.9, 0.01).answer == "inconclusive"  # nothing could be seen
    assert rule(0.0, low_a, b, 0.9, 0.01).answer == "refuted"
    for one in (replace(a, seeds=1), replace(b, seeds=1)):
        assert rule(0.1, one if one.arm == a.arm else a, one if one.arm == b.arm else b).answer == "inconclusive"


def test_controls_qualify_a_gain_and_nothing_else() -> None:
    random, codes = arm("random-1x"), arm("codes-only-1x")
    beaten, as_good, better = (0.1, 0.2), (-0.1, 0.1), (-0.3, -0.2)
    full = {arm(f"{name}-1x"): beaten for name in REQUIRED_CONTROLS}
    assert word_of("supported", attribute(full)) == "supported"
    assert word_of("supported", attribute(full | {random: as_good})) == "not attributable to anchors"
    assert word_of("supported", attribute(full | {codes: better})) == "not attributable to the language model"
    assert word_of("supported", attribute({random: beaten})) == "supported, not attributed"
    assert word_of("supported", None) == "supported"
    for answer in ("refuted", "inconclusive"):
        assert word_of(answer, attribute(full | {random: as_good})) == answer
    found = attribute(full | {random: as_good, codes: better})
    assert (found.anchors, found.model, found.better) == (("random",), ("codes-only",), ("codes-only",))


def test_better_is_not_called_as_good() -> None:
    made = make(CLEAR | {"random-1x": 0.75, "codes-only-1x": 0.95}, items=300)
    board = board_of(made)
    report = judged(made, board)
    result = claim(report)
    assert (result.not_beaten, result.better) == (("random",), ("codes-only",))
    for name, text in renderings(made, board, report).items():
        assert "as good" not in text, name
        assert re.search(r"codes-only does better|better: codes-only", text), name


# --- roles, not names ----------------------------------------------------------------------------


def renamed(names: dict[str, str], levels: dict[str, float] = CLEAR) -> Made:
    """The same run with its sizes called otherwise."""
    given = {Arm(a.method, names[a.size], role=a.role): level for a, level in ((arm(n), v) for n, v in levels.items())}
    return make(given, items=60, parameters={names["1x"]: 990_000, names["3x"]: 2_970_000})


@pytest.mark.parametrize(
    ("small", "large"),
    [("small", "large"), ("smol-135m", "smol-360m"), ("large", "small"), ("3x", "1x"), ("a-b-0", "a-b"), ("10", "9")],
)
def test_the_name_of_a_size_decides_nothing(small: str, large: str) -> None:
    usual, other = make(CLEAR, items=60), renamed({"1x": small, "3x": large})
    boards, reports = zip(*((board_of(made), judged(made)) for made in (usual, other)), strict=True)
    first, second = (board.verdict for board in boards)
    assert first.answer == second.answer == "supported" and second.attributable is True
    assert (str(second.small), str(second.large)) == (f"ecr-{small}", f"finetune-{large}")
    assert f"beat finetune-{large}, a plain model 3.0 times as large" in second.question
    assert len(second.by_task["all"].attribution.beaten) == 5
    assert [r.verdict for r in reports[0].results] == [r.verdict for r in reports[1].results]
    assert [len(r.controls) for r in reports[0].results] == [len(r.controls) for r in reports[1].results]
    assert len(claim(reports[1]).controls) == 5


def test_large_is_the_plain_size_nearest_three_times_small() -> None:
    sizes = {"tiny": 1_000, "1x": 10_000, "2x": 19_000, "3x": 34_000, "10x": 100_000}
    arms = {Arm("finetune", size, role=Role.PLAIN): 0.5 for size in sizes}
    arms |= {Arm("ecr", size, role=Role.MAIN): 0.7 for size in ("1x", "3x")}
    verdict = board_of(make(arms, items=20, precisions=("fp32",), parameters=sizes)).verdict
    assert (str(verdict.small), str(verdict.large)) == ("ecr-1x", "finetune-3x")
    assert verdict.ratio == pytest.approx(3.4)


def test_roles_of_the_methods_are_what_the_claims_need() -> None:
    from ecr_bench.methods.registry import METHODS, role_of

    roles = {name: role_of(name) for name in METHODS}
    assert {name for name, role in roles.items() if role.is_control} == {*REQUIRED_CONTROLS, "teacher-probe"}
    assert [name for name, role in roles.items() if role is Role.MAIN] == ["ecr"]
    assert [name for name, role in roles.items() if role is Role.PLAIN] == ["finetune"]


def test_the_users_own_sizes_are_judged_by_the_shipped_claims() -> None:
    """An experiment with names of its own, planned for real and answered here."""
    from ecr_bench.runner.plan import make_plan

    sizes = {"smol-135m": load("quick").sizes["1x"].model_dump(), "smol-360m": load("quick").sizes["3x"].model_dump()}
    cells = [{"method": "finetune", "sizes": list(sizes), "seeds": [0, 1]}, {"method": "ecr", "seeds": [0, 1]}]
    cells += [{"method": name} for name in (*REQUIRED_CONTROLS, "teacher-probe")]
    for group in cells:
        group.setdefault("sizes", ["smol-135m"])
    plan = make_plan(load("quick").with_overrides({"sizes": sizes, "cells": cells}))
    levels = {cell.arm: 0.75 if cell.arm.role is Role.MAIN else 0.45 for cell in plan.cells}
    made = make(levels, items=60, parameters={"smol-135m": 10, "smol-360m": 31})
    assert same_word(made) == "supported" and len(claim(judged(made)).controls) == 6


# --- one comparison, one p, one word ----------------------------------------------------------------


def renderings(made: Made, board: Board, report: ClaimsReport) -> dict[str, str]:
    out = io.StringIO()
    run = Run("quick", made.arms, board, made.cells, claims=report)
    print_run(run, Console(file=out, width=1_000))
    page = render_page(run)
    text = re.sub(r"<[^>]+>", "", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))
    return {"terminal": out.getvalue(), "markdown": to_markdown(run), "page": html.unescape(text)}


@pytest.mark.parametrize("level", [0.75, 0.56, 0.53, 0.4])
def test_every_rendering_says_the_same_p_and_word(level: float) -> None:
    made = make(CLEAR | {"ecr-1x": level, "random-1x": level}, items=40, seed=1)
    board = board_of(made)
    report = judged(made, board)
    found, result = headline(board), claim(report)
    assert result.p_holm == found.p_holm == board.verdict.by_task["all"].p_holm
    assert result.finding and result.finding.mdd == found.mdd and result.finding.p == found.p
    assert result.verdict == found.verdict == board.verdict.answer
    for precision in ("int8", "nf4"):
        low = claim(report, f"beats-3x-{precision}")
        if low.finding:
            same = next(c for c in board.contrasts if c.family == "low precision" and c.precision == precision
                        and (c.group, c.task) == ("unseen", "all"))  # fmt: skip
            assert (low.p_holm, low.verdict) == (same.p_holm, same.verdict)
    p = p_in_words(found.p_holm)
    bare = p.removeprefix("p ").removeprefix("= ").replace("< ", "<")
    for name, text in renderings(made, board, report).items():
        said = [line for line in text.splitlines() if "ecr-1x" in line and "finetune-3x" in line and p in line]
        assert said, (name, p)
        assert bare in text and found.verdict in text.lower(), (name, found.verdict)
        assert not re.search(r"\bNot shown\b|\bYes\b", text), name


def test_claims_that_are_not_on_the_board_are_corrected_over_each_other(tmp_path: Path) -> None:
    made = make(CLEAR, items=40)
    board = board_of(made)
    base = {"says": "x", "metric": "accuracy", "direction": "higher", "smallest_effect": 0.01, "controls": []}
    entries = [base | {"id": f"c{i}", "a": "random-1x", "b": b} for i, b in enumerate(("constant-1x", "language-1x"))]
    entries.append(base | {"id": "on-board", "a": "ecr-1x", "b": "finetune-3x", "controls": None})
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": entries}))
    facts = Facts.of(made.records, made.arms, made.cells, (), QUICK, contrasts=board.contrasts)
    report = judge("quick", facts, path)
    assert (report.tested, report.corrected) == (3, 2)
    own = sorted((r.finding.p, r.p_holm) for r in report.results[:2] if r.finding and r.p_holm is not None)
    assert own[0][1] == pytest.approx(min(1, 2 * own[0][0])) and report.results[2].p_holm == headline(board).p_holm


def test_the_same_pair_asked_the_other_way_round_has_the_same_p(tmp_path: Path) -> None:
    made = make(CLEAR | {"ecr-1x": 0.3}, items=40)
    board = board_of(made)
    shared = {"says": "x", "metric": "accuracy", "direction": "higher", "smallest_effect": 0.01, "controls": []}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [shared | {"id": "r", "a": "finetune-3x", "b": "ecr-1x"}]}))
    facts = Facts.of(made.records, made.arms, made.cells, (), QUICK, contrasts=board.contrasts)
    (result,) = judge("quick", facts, path).results
    assert result.p_holm == headline(board).p_holm
    assert (result.verdict, headline(board).verdict) == ("supported", "refuted")


# --- ties and floors --------------------------------------------------------------------------------


def test_a_tie_takes_two() -> None:
    board = board_of(make({"ecr-1x": 0.9, "finetune-1x": 0.4, "finetune-3x": 0.4}, items=100))
    rows = [r for r in board.rows if (r.group, r.task, r.precision) == ("unseen", "all", "fp32")]
    assert [r.tied_with_leader for r in rows] == [False, False, False]
    board = board_of(make({"ecr-1x": 0.9, "finetune-1x": 0.9, "finetune-3x": 0.4}, items=100))
    rows = [r for r in board.rows if (r.group, r.task, r.precision) == ("unseen", "all", "fp32")]
    assert {str(r.arm): r.tied_with_leader for r in rows} == {
        "ecr-1x": True, "finetune-1x": True, "finetune-3x": False,
    }  # fmt: skip


def test_who_is_told_apart_on_the_board_is_not_tied() -> None:
    rng = np.random.default_rng(0)
    for seed in rng.integers(0, 1000, 5):
        made = make(CLEAR | {"ecr-1x": 0.58, "finetune-3x": 0.5, "random-1x": 0.57}, items=60, seed=int(seed))
        board = board_of(made)
        for c in (c for c in board.contrasts if c.family != "controls" and c.precision == c.precision_b):
            rows = {r.arm: r for r in board.rows if (r.group, r.task, r.precision) == (c.group, c.task, c.precision)}
            best = max((r for r in rows.values() if r.tied_with_leader is not None), key=lambda r: r.mean)
            if best.arm in (c.a, c.b):
                other = rows[c.b if best.arm == c.a else c.a]
                if other.tied_with_leader is not None and c.p_holm < 0.05:
                    assert not other.tied_with_leader


def test_tasks_at_the_floor_are_named_and_means_stand_without_them() -> None:
    levels = CLEAR | {"teacher-probe-1x": 0.9}
    at_chance = dict.fromkeys(set(levels) - {"teacher-probe-1x"}, 0.25)
    made = make(levels, fine=at_chance, items=100)
    board = board_of(made)
    assert board.floors == {"unseen": ("slot",), "seen": ("slot",)}
    rows = {(str(r.arm), r.task): r for r in board.rows if (r.group, r.precision) == ("unseen", "fp32")}
    assert rows["ecr-1x", "all above floor"].mean == rows["ecr-1x", "intent"].mean > rows["ecr-1x", "all"].mean
    assert ("ecr-1x", "fine above floor") not in rows  # nothing is left of it
    assert board.verdict.by_task["all above floor"].answer == "not attributable to the language model"
    assert headline(board, "fine").verdict == "inconclusive"
    for name, text in renderings(made, board, judged(made, board)).items():
        assert re.search(r"at the floor,[^|]{0,80}slot", " ".join(text.split()), re.I), name
    assert board_of(make(CLEAR)).floors == {}


def test_a_task_that_one_arm_solves_is_not_at_the_floor() -> None:
    fine = dict.fromkeys(CLEAR, 0.25) | {"ecr-1x": 0.7}
    assert board_of(make(CLEAR, fine=fine, items=100)).floors == {}


# --- times -------------------------------------------------------------------------------------------


def timing(name: str, rounds: list[float], **more: Any) -> Timing:
    given = {"metric": "train_seconds", "precision": "fp32", "session": "s", "interleaved": True, "host": "h"}
    given |= {"device": "cpu", "seed": 0, "count": 50, "code": "c"}
    return Timing(arm=arm(name), rounds=tuple(rounds), **(given | more))


ECR, PLAIN = [10.2, 10.5, 10.3, 10.4], [10.0, 10.1, 10.0, 10.2]


@pytest.mark.parametrize(
    ("timings", "verdict", "words"),
    [
        ([], "not tested", "was not measured to be compared"),
        ([timing("ecr-1x", ECR)], "not tested", "of finetune-1x"),
        ([timing("ecr-1x", ECR), timing("finetune-1x", PLAIN)], "supported", "over rounds"),
        ([timing("ecr-1x", [x * 1.3 for x in ECR]), timing("finetune-1x", PLAIN)], "refuted", "exceeds the margin"),
        ([timing("ecr-1x", ECR, host="x"), timing("finetune-1x", PLAIN)], "not tested", "in another host"),
        ([timing("ecr-1x", ECR, device="gpu"), timing("finetune-1x", PLAIN)], "not tested", "in another device"),
        ([timing("ecr-1x", ECR, session="t"), timing("finetune-1x", PLAIN)], "not tested", "in another session"),
        ([timing("ecr-1x", ECR, interleaved=False), timing("finetune-1x", PLAIN)], "not tested", "not timed in turn"),
        ([timing("ecr-1x", ECR[:2]), timing("finetune-1x", PLAIN[:2])], "not tested", "3 or more"),
    ],
)  # fmt: skip
def test_times_are_judged_where_they_were_measured_for_it(timings: list[Timing], verdict: str, words: str) -> None:
    made = make(CLEAR, items=10).with_cells(train_seconds=10.0)
    result = claim(judged(made, timings=timings), "trains-at-no-extra-cost")
    assert (result.verdict, words in result.sentence) == (verdict, True), result.sentence


def test_cells_keep_their_seconds_for_nobody_to_compare() -> None:
    made = make(CLEAR, items=10).with_cells(train_seconds=10.0)
    page = render_page(run_of(made))
    assert "not for comparison" in page and by_name(made.arms.values())
