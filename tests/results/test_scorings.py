"""Accuracy per byte beside accuracy: lm-eval's number, on the arms that it says something about."""

from __future__ import annotations

import numpy as np
import pytest

from ecr_bench.report.tables import scoring_table
from ecr_bench.results.scorings import over_options
from tests.helpers.world import Made, board_of, make


def with_scores(made: Made, arm: str, scores: np.ndarray) -> Made:
    """``arm`` with other log-likelihoods (N, 4), and what they choose."""
    mine = (made.records["arm"] == arm).to_numpy()
    records = made.records.copy()
    predicted = scores.argmax(1)
    records.loc[mine, "loglikelihoods"] = np.fromiter((list(row) for row in scores), dtype=object, count=len(scores))
    records.loc[mine, "predicted"] = predicted
    records.loc[mine, "correct"] = predicted == records.loc[mine, "gold"].to_numpy()
    return made._replace(records=records)


def test_it_is_lm_evals_acc_bytes():
    made = make(items=40, precisions=("fp32",), seeds=2)
    rng = np.random.default_rng(0)
    scores = -rng.gamma(9, 2, (int((made.records["arm"] == "ecr-1x").sum()), 4))
    made = with_scores(made, "ecr-1x", scores)
    board = board_of(made)
    mine = made.records[(made.records["arm"] == "ecr-1x") & (made.records["group"] == "unseen")]
    # lm_eval.api.task: pred_byte = np.argmax(lls / completion_len_bytes)
    said = [int(np.argmax(np.array(r.loglikelihoods) / np.array(r.choice_bytes))) for r in mine.itertuples()]
    right = mine.assign(right=[a == b for a, b in zip(said, mine["gold"], strict=True)])
    by_task = right.groupby(["seed", "task", "lang"])["right"].mean().groupby("task").mean()
    found = {(str(r.arm), r.group, r.task): r for r in board.scorings}
    row = found["ecr-1x", "unseen", "all"]
    assert row.mean == pytest.approx(by_task.mean()) and row.ci[0] < row.mean < row.ci[1]
    assert row.mean != next(r.mean for r in board.rows if (str(r.arm), r.group, r.task) == ("ecr-1x", "unseen", "all"))
    assert found["ecr-1x", "unseen", "fine"].mean == pytest.approx(by_task["slot"])
    table = scoring_table(board, "unseen")
    line = next(line for line in table.lines if line[0] == "ecr-1x")
    assert table.columns[-2:] == ("all", "all per byte") and line[-1] == f"{100 * row.mean:.1f}"
    assert max(map(len, table.columns)) <= 16


def test_who_says_how_likely_options_are_among_themselves_is_left_out():
    made = make(items=20, precisions=("fp32",), seeds=1)
    count = int((made.records["arm"] == "finetune-1x").sum())
    raw = np.random.default_rng(1).normal(size=(count, 4))
    made = with_scores(made, "finetune-1x", raw - np.logaddexp.reduce(raw, axis=1, keepdims=True))
    assert over_options(made.records) == {"finetune-1x"}
    board = board_of(made)
    assert "finetune-1x" in {str(r.arm) for r in board.rows} - {str(r.arm) for r in board.scorings}
    assert {str(r.arm) for r in board.scorings} == {str(r.arm) for r in board.rows} - {"finetune-1x"}


def test_several_right_options_count_as_they_did():
    made = make(items=10, precisions=("fp32",), seeds=1)
    records = made.records.assign(choice_bytes=[[1, 1, 1, 1]] * len(made.records), correct=True)
    board = board_of(made._replace(records=records))
    assert {r.mean for r in board.scorings} == {1.0}
