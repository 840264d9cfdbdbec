"""``ecr-bench compare``: any two arms or cells, of one run or of two that share items."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.formats import interval, points
from ecr_bench.publish import compare_references
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import build_panel
from ecr_bench.table import Table
from tests.helpers.world import Made, finished, make


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("runs")
    made = make(items=40)
    finished(folder / "one", made)
    finished(folder / "two", make({"ecr-1x": 0.3, "finetune-3x": 0.5}, items=30, seed=1))
    other = make({"ecr-1x": 0.5}, items=5)
    finished(folder / "other", other._replace(records=other.records.assign(item_id="x" + other.records["item_id"])))
    return folder, made


def line(table: Table, split: str, task: str) -> tuple[str, ...]:
    return next(found for found in table.sections[0] if found[:2] == (split, task))


def test_arms_of_one_run_give_the_boards_numbers(runs: tuple[Path, Made]) -> None:
    folder, made = runs
    table = compare_references(f"{folder}/one:ecr-1x", f"{folder}/one:finetune-3x:nf4")
    panel = build_panel(made.records[made.records["group"] == "unseen"])
    found = compare(panel, "ecr-1x", "finetune-3x", "fp32", "nf4", "fine")
    shown = line(table, "unseen", "fine")
    assert shown[4] == f"{points(found.value)} ({interval((found.low, found.high))})" and len(table.sections[0]) == 10
    assert "ecr-1x in fp32, 3 seeds" in table.caption and "finetune-3x in nf4, 3 seeds" in table.caption


def test_cells_and_precisions_of_one_arm(runs: tuple[Path, Made]) -> None:
    folder, _ = runs
    table = compare_references(f"{folder}/one:ecr-1x-0", f"{folder}/one:ecr-1x-1:nf4")
    assert "ecr-1x-0 in fp32, 1 seed;" in table.caption and line(table, "seen", "all")
    with pytest.raises(UserError, match="are the same cells"):
        compare_references(f"{folder}/one:ecr-1x", f"{folder}/one/:ecr-1x:fp32")


def test_two_runs_are_paired_on_the_items_they_share(runs: tuple[Path, Made]) -> None:
    folder, _ = runs
    table = compare_references(f"{folder}/one:ecr-1x", f"{folder}/two:ecr-1x")
    _, _, a, b, difference, p, _, _ = line(table, "unseen", "all")
    assert float(a) > 65 and float(b) < 40 and difference.startswith("+") and p == "<.001"
    with pytest.raises(UserError, match="share no items"):
        compare_references(f"{folder}/one:ecr-1x", f"{folder}/other:ecr-1x")


@pytest.mark.parametrize(
    ("a", "words"),
    [
        ("ecr-1x", ["write FOLDER:ARM"]),
        ("one:ecr-9x", ["ecr-9x", "finetune-3x"]),
        ("one:ecr-1x:fp8", ["fp8", "fp32, nf4"]),
        ("none:ecr-1x", ["no run in none", "ecr-bench run none"]),
    ],
)
def test_bad_references_are_one_line(
    runs: tuple[Path, Made], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, a: str,
    words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(runs[0])
    with pytest.raises(SystemExit) as caught:
        main(["compare", a, "one:finetune-3x"])
    text = capsys.readouterr().err
    assert caught.value.code == 2 and text.count("\n") == 1 and all(word in text for word in words), text


def test_it_fits_80_columns(
    runs: tuple[Path, Made], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(runs[0])
    main(["compare", "one:ecr-1x", "one:finetune-3x"])
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 80 and sum("±" not in x and x.strip().startswith("unseen") for x in shown) == 5
