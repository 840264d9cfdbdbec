"""A run as one object: written, read back, asked; and what is said where its files are not what was written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ecr_bench as eb
from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.results.files import FORMAT, DamagedError, read_manifest, write_manifest
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import build_panel
from tests.helpers.outside import ROOT
from tests.helpers.world import Made, arm, make, measured, run_of

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def made() -> Made:
    return make(
        {arm("ecr-1x"): 0.7, arm("finetune-3x"): 0.5, Arm.of("ecr", "1x", {"a.b": [1]}, Role.MAIN): 0.6}, items=9
    )


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    run_of(made, measured("mexa", {"ecr-1x": [0.5, 0.6]})).write(tmp_path / "here" / "quick")
    return tmp_path / "here" / "quick"


def test_a_run_reads_back_as_it_was_written(made: Made, folder: Path) -> None:
    run, back = run_of(made, measured("mexa", {"ecr-1x": [0.5, 0.6]})), eb.Run.load(folder)
    assert (back.name, back.arms, back.board, back.cells, back.measures) == (
        run.name, run.arms, run.board, run.cells, run.measures,
    )  # fmt: skip
    assert [a.role for a in back.arms.values()] == [a.role for a in run.arms.values()]
    pd.testing.assert_frame_equal(back.records(), run.records(), check_dtype=False)
    assert back.experiment["name"] == "quick" and back.claims is None and back.ablation is None
    again = folder.parent / "again"
    replace(back, own_records=back.records()).write(again)
    assert eb.Run.load(again).board == run.board


def test_a_run_leaves_nothing_of_one_that_was_there_before(made: Made, folder: Path) -> None:
    for name in ("timings.json", "claims.json", "ablation.json"):
        (folder / name).write_text("[]")
    replace(run_of(made), folder=folder).write(folder)
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "board.json", "cells.json", "measures.json", "records.parquet",
    }  # fmt: skip
    copy = folder.parent / "copy"
    eb.Run.load(folder).write(copy)
    assert len(eb.Run.load(copy).records()) == len(made.records)
    replace(eb.Run.load(folder), board=eb.Run.load(folder).board).write(folder)
    assert len(eb.Run.load(folder).records()) == len(made.records)


def test_comparing_two_arms_gives_the_boards_numbers(made: Made, folder: Path) -> None:
    found = eb.Run.load(folder).compare("ecr-1x", "finetune-3x")
    row = found[(found["group"] == "unseen") & (found["task"] == "all")].iloc[0]
    panel = build_panel(made.records[made.records["group"] == "unseen"])
    expected = compare(panel, "ecr-1x", "finetune-3x", "fp32", "fp32", "all")
    assert (row["difference"], row["low"], row["p"]) == (expected.value, expected.low, expected.p)
    assert row["a"] - row["b"] == pytest.approx(row["difference"]) and len(found) == 2 * 5
    (contrast,) = (c for c in eb.Run.load(folder).board.contrasts if c.name == "ecr-1x - finetune-3x"
                   and (c.group, c.task, c.precision) == ("unseen", "all", "fp32"))  # fmt: skip
    assert (row["p_holm"], row["verdict"]) == (contrast.p_holm, contrast.verdict)
    back = eb.Run.load(folder).compare("finetune-3x", "ecr-1x").set_index(["group", "task"]).loc[("unseen", "all")]
    assert (back["p_holm"], back["verdict"]) == (contrast.p_holm, None)
    with pytest.raises(UserError, match=r"ecr-9x.*ecr-1x"):
        eb.Run.load(folder).compare("ecr-9x", "finetune-3x")


def test_arms_and_figures_are_looked_up_by_name(folder: Path) -> None:
    run = eb.Run.load(folder)
    assert run.arm("ecr-1x[a.b=[1]]").settings == (("a.b", "[1]"),)
    assert run.figure("accuracy").axes
    with pytest.raises(UserError, match=r"unknown figure 'pie': allowed are .*differences"):
        run.figure("pie")


def test_the_readme_shows_what_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(import ecr_bench as eb.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert code and 'eb.Run.load("runs/quick")' in code[1]
    folder.parent.rename(folder.parent.parent / "runs")
    monkeypatch.chdir(folder.parent.parent)
    names: dict[str, Any] = {}
    exec(code[1], names)
    assert list(names["run"].compare("ecr-1x", "finetune-3x").columns) == [
        "group", "task", "a", "b", "difference", "low", "high", "p", "mcnemar_p", "mdd",
        "p_holm", "verdict",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["board.json", "cells.json", "measures.json", "records.parquet", "run.json"])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ecr", b"ecs", 1) if name != "records.parquet" else content + b" ")
    with pytest.raises(DamagedError, match=rf"{name}: was changed"):
        eb.Run.load(folder)
    if name != "run.json":
        path.unlink()
        with pytest.raises(DamagedError, match=f"{name}: missing"):
            eb.Run.load(folder)


def test_other_formats_are_refused_by_name(folder: Path) -> None:
    raw = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(raw | {"format": FORMAT + 1}))
    with pytest.raises(UserError, match=rf"format {FORMAT + 1}, this version reads {FORMAT}"):
        eb.Run.load(folder)
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match=r"format 1 \(it has no run.json, or is not whole\), .*migrate"):
        eb.Run.load(folder)
    with pytest.raises(UserError, match=r"no run in .*; first: ecr-bench run"):
        eb.Run.load(folder / "nowhere")


def test_a_file_that_hashes_right_but_says_something_else_names_the_field(made: Made, folder: Path) -> None:
    files = read_manifest(folder).files
    raw = json.loads((folder / "board.json").read_text())
    raw["rows"][0]["arm"] = "nobody-1x"
    (folder / "board.json").write_text(json.dumps(raw))
    write_manifest(folder, "quick", made.arms.values(), files)
    with pytest.raises(UserError, match=r"board.json: rows.0.arm: .*'nobody-1x' is not in the table of arms"):
        eb.Run.load(folder)
