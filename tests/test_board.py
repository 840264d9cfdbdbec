from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ecr_bench.errors import UserError
from ecr_bench.report.board import build_board, write_board
from ecr_bench.report.markdown import to_markdown
from ecr_bench.report.schema import Board, read_board
from ecr_bench.report.terminal import print_board

LEVELS = {"finetune-1x": 0.45, "finetune-3x": 0.5, "ecr-1x": 0.75, "shuffled-1x": 0.45, "codes-only-1x": 0.4}
LANGUAGES = {"de": "seen", "ja": "unseen", "ru": "unseen"}
TASKS = {"intent": "coarse", "slot": "fine"}
Records = tuple[pd.DataFrame, list[dict[str, Any]]]


def make(
    levels: dict[str, float] | None = None,
    fine: dict[str, float] | None = None,
    seeds: int = 2,
    precisions: tuple[str, ...] = ("fp32", "nf4"),
    items: int = 150,
    seed: int = 0,
) -> Records:
    """Records and cells of arms with known accuracy; ``fine`` gives other levels for the fine task."""
    rng = np.random.default_rng(seed)
    levels = LEVELS if levels is None else levels
    base = pd.DataFrame(
        [(t, g, lang, group, k) for t, g in TASKS.items() for lang, group in LANGUAGES.items() for k in range(items)],
        columns=["task", "grain", "lang", "group", "k"],
    )
    base["task_name"] = "ecr_" + base["task"] + "_" + base["lang"]
    base["target_lang"] = base["lang"]
    base["item_id"] = base["task"] + base["lang"] + base["k"].astype(str)
    base["cluster"] = "m" + base["k"].astype(str)
    base["topic"] = "t" + (base["k"] % 10).astype(str)
    base["loglikelihoods"] = [[-1.0, -2.0, -3.0, -4.0]] * len(base)
    is_fine = (base["grain"] == "fine").to_numpy()
    frames, cells = [], []
    for arm, level in levels.items():
        method, size = arm.rsplit("-", 1)
        chance = np.where(is_fine, (fine or {}).get(arm, level), level)
        for s in range(seeds if method in ("ecr", "finetune") else 1):
            for precision in precisions:
                cell = {"cell": f"{arm}-{s}", "method": method, "size": size, "precision": precision, "seed": s}
                extra = 0 if method == "finetune" else 4
                frames.append(base.assign(**cell, extra_tokens=extra, correct=rng.random(len(base)) < chance))
                parameters = 990_000 if size == "1x" else 2_970_000
                side = 400_000 if method == "ecr" else 0
                cells.append({**cell, "parameters": parameters, "side_parameters": side, "ms_per_item": 0.5 + s})
    return pd.concat(frames, ignore_index=True), cells


SURFACE = {(task, split): {"copy": 0.3, "chance": 0.25} for task in TASKS for split in ("seen", "unseen")}


def board_of(made: Records, **changes: Any) -> Board:
    given: dict[str, Any] = {"baselines": SURFACE, "provenance": {"commit": "abc"}, "notes": ["a note"]} | changes
    return build_board("quick", made[0], made[1], **given)


@pytest.fixture(scope="module")
def board() -> Board:
    return board_of(make())


def row(board: Board, method: str, task: str = "all", precision: str = "fp32", split: str = "unseen") -> Any:
    found = [r for r in board.rows if (r.method, r.task, r.precision, r.split) == (method, task, precision, split)]
    return found[-1]


def test_rows_cover_the_grid_and_hold_the_facts(board: Board) -> None:
    assert {r.task for r in board.rows} == {"coarse", "fine", "intent", "slot", "all"}
    assert len(board.rows) == len(LEVELS) * 2 * 2 * 5
    ecr = row(board, "ecr")
    assert ecr.mean == pytest.approx(0.75, abs=0.04) and ecr.ci[0] < 0.75 < ecr.ci[1]
    assert (ecr.n_items, ecr.n_seeds, ecr.n_clusters, ecr.covers) == (600, 2, 150, "items and seeds")
    assert (ecr.chance, ecr.extra_tokens_per_item, ecr.parameters, ecr.side_parameters) == (0.25, 4, 990_000, 400_000)
    assert ecr.ms_per_item == 1.0 and ecr.bytes is None
    assert ecr.above_chance == pytest.approx((ecr.mean - 0.25) / 0.75)
    assert ecr.tied_with_leader and not row(board, "finetune").tied_with_leader
    assert board.baselines["unseen"]["all"] == pytest.approx({"copy": 0.3, "chance": 0.25})


def test_contrasts_find_the_known_differences(board: Board) -> None:
    found = {(c.name, c.split, c.task, c.precision, c.precision_b): c for c in board.contrasts}
    main = found["ecr-1x - finetune-3x", "unseen", "all", "fp32", "fp32"]
    assert main.difference == pytest.approx(0.25, abs=0.06) and main.verdict == "supported"
    assert main.p <= main.p_holm and main.family == "headline" and len(main.mcnemar_by_seed) == 2
    assert found["ecr-1x (nf4) - finetune-3x (fp32)", "unseen", "all", "nf4", "fp32"].verdict == "supported"
    assert found["finetune-3x - finetune-1x", "unseen", "fine", "nf4", "nf4"].family == "scale"
    control = found["ecr-1x - shuffled-1x", "unseen", "coarse", "fp32", "fp32"]
    assert control.family == "controls" and control.p_holm == control.p
    assert not any("random" in c.name for c in board.contrasts)


def test_supported_but_controls_missing(board: Board) -> None:
    verdict = board.verdict
    assert verdict.question == "Does ecr-1x beat finetune-3x on unseen languages (fp32)?"
    assert verdict.answer == "supported" and verdict.attributable is None
    assert "untested for lack of random, constant, language" in verdict.by_task["all"].qualification
    assert len(verdict.low_precision) == 2 and all("yes" in s for s in verdict.low_precision)


ALL_CONTROLS = {f"{name}-1x": 0.45 for name in ("random", "constant", "language", "shuffled", "codes-only")}


def test_attributable_when_every_control_is_beaten() -> None:
    verdict = board_of(make(LEVELS | ALL_CONTROLS, precisions=("fp32",))).verdict
    assert verdict.attributable is True
    assert "ECR beats every control" in verdict.by_task["fine"].qualification


def test_a_control_that_does_as_well_qualifies_the_verdict_by_grain() -> None:
    levels = LEVELS | ALL_CONTROLS | {"random-1x": 0.75, "codes-only-1x": 0.9, "oracle-1x": 0.8}
    board = board_of(make(levels, fine={"codes-only-1x": 0.3, "random-1x": 0.3}, precisions=("fp32",), items=500))
    coarse, fine = board.verdict.by_task["coarse"], board.verdict.by_task["fine"]
    assert coarse.not_attributable_to_anchors == ("random",)
    assert coarse.not_attributable_to_language_model == ("codes-only",)
    assert "codes-only does better" in coarse.qualification
    assert not fine.not_attributable_to_anchors and not fine.not_attributable_to_language_model
    assert board.verdict.answer == "supported" and board.verdict.attributable is False
    assert row(board, "oracle").tied_with_leader is None


@pytest.mark.parametrize(("ecr", "answer"), [(0.5, "inconclusive"), (0.3, "refuted")])
def test_other_verdicts(ecr: float, answer: str) -> None:
    verdict = board_of(make(LEVELS | {"ecr-1x": ecr}, precisions=("fp32",))).verdict
    assert verdict.answer == answer
    assert ("cannot be told apart" if answer == "inconclusive" else "below finetune-3x") in verdict.sentence


def test_one_seed_says_that_intervals_cover_items_only() -> None:
    board = board_of(make(seeds=1, precisions=("fp32",)))
    assert {r.covers for r in board.rows} == {"items"} and {c.n_seeds for c in board.contrasts} == {1}
    assert "over items;" in to_markdown(board)


def test_missing_cells_are_simply_absent() -> None:
    records, cells = make()
    kept = records[~((records["method"] == "ecr") & (records["precision"] == "nf4"))]
    board = board_of((kept[kept["method"] != "shuffled"], cells))
    assert not [r for r in board.rows if r.method == "shuffled" or (r.method == "ecr" and r.precision == "nf4")]
    assert board.verdict.answer == "supported" and board.verdict.low_precision == ()
    alone = board_of(make({"finetune-1x": 0.5}, precisions=("int8",)), baselines={})
    assert alone.verdict.answer == "not tested" and "Not tested" in to_markdown(alone)


def test_overrides_make_arms_of_their_own() -> None:
    records, cells = make(precisions=("fp32",), seeds=1)
    again = records[records["method"] == "ecr"].assign(cell="ecr-8")
    more = {**next(c for c in cells if c["method"] == "ecr"), "cell": "ecr-8", "overrides": {"control_tokens.count": 8}}
    board = board_of((pd.concat([records, again], ignore_index=True), [*cells, more]))
    assert row(board, "ecr[control_tokens.count=8]").mean == row(board, "ecr").mean


def test_edges_are_finite_json(tmp_path: Path) -> None:
    records, cells = make({"ecr-1x": 1.1, "finetune-3x": 1.1}, items=3)
    write_board(tmp_path, board_of((records.assign(cluster="one"), [c | {"ms_per_item": float("nan")} for c in cells])))
    text = (tmp_path / "board.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    board = read_board(tmp_path)
    assert {r.ci for r in board.rows} == {(0.0, 1.0)} and {c.verdict for c in board.contrasts} == {"inconclusive"}
    assert {r.ms_per_item for r in board.rows} == {None}


def test_written_board_reads_back(tmp_path: Path, board: Board) -> None:
    write_board(tmp_path, board)
    assert read_board(tmp_path) == board
    assert {"name", "rows", "baselines", "contrasts", "verdict", "notes", "provenance"} <= set(
        json.loads((tmp_path / "board.json").read_text())
    )
    (tmp_path / "board.json").write_text('{"name": "x"}')
    with pytest.raises(UserError, match=r"board\.json: rows: Field required"):
        read_board(tmp_path)


def test_bad_input() -> None:
    records, cells = make(precisions=("fp32",), items=3)
    with pytest.raises(UserError, match="unknown split 'dev': allowed are seen, unseen"):
        board_of((records.assign(group="dev"), cells))
    with pytest.raises(UserError, match="no rows"):
        board_of((records.iloc[:0], cells))
    with pytest.raises(UserError, match="baselines: unknown split"):
        board_of((records, cells), baselines={("intent", "dev"): {"copy": 0.1}})


def test_nested_baselines_are_accepted(board: Board) -> None:
    nested: dict[str, Any] = {}
    for (task, split), numbers in SURFACE.items():
        nested.setdefault(task, {})[split] = numbers
    assert board_of(make(), baselines=nested).baselines == board.baselines


def test_markdown_leads_with_the_verdict(board: Board) -> None:
    text = to_markdown(board)
    assert text.index("## Does ecr-1x") < text.index("## Unseen languages, fp32") < text.index("## Seen languages")
    for heading in ("Precision, unseen", "ECR minus its controls", "Accuracy by language", "Surface baselines"):
        assert f"## {heading}" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert "| ja (unseen) |" in text and "a note" in text and '"commit": "abc"' in text
    widths = [line.count("|") for line in tables]
    rules = [i for i, line in enumerate(tables) if set(line) <= set("|-: ")]
    for start, stop in zip(rules, [*(r - 1 for r in rules[1:]), len(tables)], strict=True):
        assert len(set(widths[start - 1 : stop])) == 1


def test_terminal_fits_80_columns_unseen_first(board: Board) -> None:
    out = io.StringIO()
    print_board(board, Console(file=out, width=80))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.index("Unseen languages, fp32") < text.index("Seen languages, fp32")
    line = next(line for line in text.splitlines() if line.strip().startswith("codes-only-1x"))
    assert line.count("±") == 3
    assert text.index("finetune-1x   ") < text.index("shuffled-1x  ") < text.index(" chance")


def test_a_probe_does_not_decide_the_order_of_sizes():
    from ecr_bench.report.arms import ordered_sizes

    cells = [
        {"method": "finetune", "size": "1x", "parameters": 100},
        {"method": "finetune", "size": "3x", "parameters": 300},
        {"method": "teacher-probe", "size": "3x", "parameters": 10},
    ]
    assert ordered_sizes(pd.DataFrame({"size": ["3x", "1x"]}), cells) == ["1x", "3x"]
