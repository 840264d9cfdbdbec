"""Boards of runs with known effects: rows, contrasts, verdict, and the same in Markdown and terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.report.export import to_markdown
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.judgement import Judged
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Board
from ecr_bench.results.sentences import NO_POWER, contrast_in_words
from ecr_bench.run import Run
from ecr_bench.statistics.multiple import holm
from tests.helpers.world import ALL_CONTROLS, LEVELS, Made, arm, board_of, make, run_of


@pytest.fixture(scope="module")
def board() -> Board:
    return board_of(make())


def row(board: Board, method: str, task: str = "all", precision: str = "fp32", group: str = "unseen") -> Any:
    found = [r for r in board.rows if (r.arm.name, r.task, r.precision, r.group) == (method, task, precision, group)]
    return found[-1]


def test_rows_cover_the_grid_and_hold_the_facts(board: Board) -> None:
    assert {r.task for r in board.rows} == {"coarse", "fine", "intent", "slot", "all"}
    assert len(board.rows) == len(LEVELS) * 2 * 2 * 5
    ecr = row(board, "ecr")
    assert ecr.mean == pytest.approx(0.75, abs=0.04) and ecr.ci[0] < 0.75 < ecr.ci[1]
    assert (ecr.n_items, ecr.n_seeds, ecr.n_clusters, ecr.covers) == (600, 3, 150, "items and seeds")
    assert (ecr.chance, ecr.extra_tokens_per_item, ecr.parameters, ecr.side_parameters) == (0.25, 4, 990_000, 400_000)
    assert ecr.ms_per_item == 1.5 and ecr.bytes is None
    assert ecr.above_chance == pytest.approx((ecr.mean - 0.25) / 0.75)
    assert ecr.tied_with_leader is row(board, "finetune").tied_with_leader is False  # far ahead: nobody is tied
    assert board.baselines["unseen"]["all"] == pytest.approx({"copy": 0.3, "chance": 0.25})


def test_contrasts_find_the_known_differences(board: Board) -> None:
    found = {(c.name, c.group, c.task, c.precision, c.precision_b): c for c in board.contrasts}
    main = found["ecr-1x - finetune-3x", "unseen", "all", "fp32", "fp32"]
    assert main.difference == pytest.approx(0.25, abs=0.06) and main.verdict == "supported, not attributed"
    assert main.p <= main.p_holm and main.family == "headline" and len(main.mcnemar_by_seed) == 3
    assert found["ecr-1x (nf4) - finetune-3x (fp32)", "unseen", "all", "nf4", "fp32"].verdict == main.verdict
    assert found["finetune-3x - finetune-1x", "unseen", "fine", "nf4", "nf4"].family == "scale"
    control = found["ecr-1x - shuffled-1x", "unseen", "coarse", "fp32", "fp32"]
    assert control.family == "controls" and control.p_holm == control.p
    assert not any("random" in c.name for c in board.contrasts)


def test_rivals_of_its_size_are_a_question_of_their_own_that_changes_no_other() -> None:
    rivals = {"soft-cue-1x": 0.97, "finetune+distill-1x": 0.4}
    others = {"soft-cue-3x": 0.6, "ecr+lora-1x": 0.7}  # of another size, and a form of ECR itself
    with_rivals = make(LEVELS | rivals | others, precisions=("fp32",))
    found = [c for c in board_of(with_rivals).contrasts if c.family == "rivals"]
    assert {c.name for c in found} == {f"ecr-1x - {name}" for name in rivals}
    differences = {str(c.b): c.difference for c in found if (c.group, c.task) == ("unseen", "all")}
    assert differences == pytest.approx({"soft-cue-1x": -0.22, "finetune+distill-1x": 0.35}, abs=0.06)
    unseen = [c for c in found if c.group == "unseen"]
    assert len(unseen) == 6  # coarse, fine and all of two rivals, under one correction
    assert [c.p_holm for c in unseen] == pytest.approx(holm([c.p for c in unseen]))
    without = board_of(with_rivals.without(*rivals)).contrasts
    kept = [c for c in board_of(with_rivals).contrasts if c.family != "rivals"]
    assert [(c.name, c.group, c.task, c.verdict) for c in kept] == [
        (c.name, c.group, c.task, c.verdict) for c in without
    ]
    assert [c.p_holm for c in kept] == pytest.approx([c.p_holm for c in without])


def test_supported_but_controls_missing(board: Board) -> None:
    verdict = board.verdict
    asked = "Does ecr-1x beat finetune-3x, a plain model 3.0 times as large, on unseen languages (fp32)?"
    assert verdict.question == asked
    assert verdict.answer == "supported, not attributed" and verdict.attributable is None
    assert "untested for lack of random, constant, language" in verdict.by_task["all"].qualification
    assert len(verdict.low_precision) == 2 and all("supported, not attributed" in s for s in verdict.low_precision)


def test_attributable_when_every_control_is_beaten() -> None:
    verdict = board_of(make(LEVELS | ALL_CONTROLS, precisions=("fp32",))).verdict
    assert verdict.attributable is True
    assert "ECR beats every control" in verdict.by_task["fine"].qualification


def test_a_control_that_does_as_well_qualifies_the_verdict_by_grain() -> None:
    levels = LEVELS | ALL_CONTROLS | {"random-1x": 0.75, "codes-only-1x": 0.9, "oracle-1x": 0.8}
    board = board_of(make(levels, fine={"codes-only-1x": 0.3, "random-1x": 0.3}, precisions=("fp32",), items=500))
    coarse, fine = board.verdict.by_task["coarse"], board.verdict.by_task["fine"]
    assert coarse.attribution.anchors == ("random",)
    assert coarse.attribution.model == coarse.attribution.better == ("codes-only",)
    assert coarse.answer == "not attributable to anchors" and fine.answer == "supported"
    assert "codes-only does better" in coarse.qualification
    assert not fine.attribution.anchors and not fine.attribution.model
    assert board.verdict.attributable is False
    assert row(board, "oracle").tied_with_leader is None


@pytest.mark.parametrize(("ecr", "answer"), [(0.5, "inconclusive"), (0.3, "refuted")])
def test_other_verdicts(ecr: float, answer: str) -> None:
    verdict = board_of(make(LEVELS | {"ecr-1x": ecr}, precisions=("fp32",))).verdict
    assert verdict.answer == answer
    assert ("cannot be told apart" if answer == "inconclusive" else "below finetune-3x") in verdict.sentence


def test_one_seed_says_that_intervals_cover_items_only() -> None:
    run = run_of(make(seeds=1, precisions=("fp32",)))
    assert {r.covers for r in run.board.rows} == {"items"} and {c.n_seeds for c in run.board.contrasts} == {1}
    assert "over items;" in to_markdown(run)


def test_a_table_says_all_that_its_intervals_cover() -> None:
    run = run_of(make())
    assert {r.covers for r in run.board.rows} == {"items", "items and seeds"}
    assert "over items and seeds or items;" in to_markdown(run)


def test_missing_cells_are_simply_absent() -> None:
    made = make().without("shuffled-1x")
    kept = made.records[~((made.records["arm"] == "ecr-1x") & (made.records["precision"] == "nf4"))]
    board = board_of(made._replace(records=kept))
    left = {(str(r.arm), r.precision) for r in board.rows}
    assert ("ecr-1x", "fp32") in left and not left & {("ecr-1x", "nf4"), ("shuffled-1x", "fp32")}
    assert board.verdict.answer == "supported, not attributed" and board.verdict.low_precision == ()
    alone = run_of(make({"finetune-1x": 0.5}, precisions=("int8",)), baselines={})
    assert alone.board.verdict.answer == "not tested" and "Not tested" in to_markdown(alone)


def test_settings_make_arms_of_their_own() -> None:
    made = make(precisions=("fp32",), seeds=1)
    more = Arm.of("ecr", "1x", {"control_tokens.count": 8}, Role.MAIN)
    again = made.records[made.records["arm"] == "ecr-1x"].assign(cell="ecr-8", arm=str(more))
    costs = next(c for c in made.cells if c.arm.role is Role.MAIN).model_copy(update={"cell": "ecr-8", "arm": more})
    arms = {**made.arms, str(more): more}
    board = board_of(Made(pd.concat([made.records, again], ignore_index=True), arms, [*made.cells, costs]))
    means = {r.arm: r.mean for r in board.rows if r.task == "all" and r.group == "unseen"}
    assert means[more] == means[more.without_settings] and str(more) == "ecr-1x[control_tokens.count=8]"
    assert {c.a for c in board.contrasts if c.a.role is Role.MAIN} == {more.without_settings}


def test_edges_are_finite_json(tmp_path: Path) -> None:
    made = make({"ecr-1x": 1.1, "finetune-3x": 1.1}, items=3)
    cells = [CellCosts(**{**dict(cell), "ms_per_item": float("nan")}) for cell in made.cells]
    run_of(made._replace(records=made.records.assign(cluster="one"), cells=cells)).write(tmp_path)
    text = (tmp_path / "board.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    board = Run.load(tmp_path).board
    assert {r.ci for r in board.rows} == {(0.0, 1.0)} and {c.verdict for c in board.contrasts} == {"inconclusive"}
    assert {r.ms_per_item for r in board.rows} == {None}


def test_bad_input() -> None:
    made = make(precisions=("fp32",), items=3)
    with pytest.raises(UserError, match="unknown group 'dev': allowed are seen, unseen"):
        board_of(made._replace(records=made.records.assign(group="dev")))
    with pytest.raises(UserError, match="no rows"):
        board_of(made._replace(records=made.records.iloc[:0]))


def test_a_probe_does_not_decide_the_order_of_sizes() -> None:
    given = {arm("finetune", "1x"): 100, arm("finetune", "3x"): 300}
    cells = [CellCosts(cell=str(a), arm=a, seed=0, precision="fp32", parameters=n) for a, n in given.items()]
    probe = arm("teacher-probe", "3x")
    cells.append(CellCosts(cell="p", arm=probe, seed=0, precision="fp32", parameters=10, probe={}))
    assert Cast.of([*reversed(given), probe], cells).sizes == ["1x", "3x"]


def test_a_run_that_could_detect_nothing_says_so_instead_of_a_hundred_points() -> None:
    board = board_of(make(precisions=("fp32",)))
    contrast, judged = board.contrasts[0], Judged("inconclusive")
    assert "can detect differences from 5.0 points" in contrast_in_words(
        contrast.model_copy(update={"mdd": 0.05}), judged
    )
    words = contrast_in_words(contrast.model_copy(update={"mdd": 1.0}), judged)
    assert NO_POWER in words and "100" not in words
