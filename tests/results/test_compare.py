"""``ecr-bench compare``: any two arms or cells, of one run or of two that share items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import write_records
from ecr_bench.formats import DASH, interval, p_value, points
from ecr_bench.publish import compare_references
from ecr_bench.results.eval_folder import EvalFolder, write_evaluation
from ecr_bench.results.files import DamagedError
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import build_panel
from ecr_bench.table import Table
from tests.helpers.world import Made, board_of, finished, make


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("runs")
    made = make(items=40)
    finished(folder / "one", made)
    finished(folder / "two", make({"ecr-1x": 0.3, "finetune-3x": 0.5}, items=30, seed=1))
    other = make({"ecr-1x": 0.5}, items=5)
    finished(folder / "other", other._replace(records=other.records.assign(item_id="x" + other.records["item_id"])))
    return folder, made


def line(table: Table, group: str, task: str) -> tuple[str, ...]:
    return next(found for found in table.sections[0] if found[:2] == (group, task))


def test_arms_of_one_run_give_the_boards_numbers(runs: tuple[Path, Made]) -> None:
    folder, made = runs
    table = compare_references(f"{folder}/one:ecr-1x", f"{folder}/one:finetune-3x:nf4")
    panel = build_panel(made.records[made.records["group"] == "unseen"])
    found = compare(panel, "ecr-1x", "finetune-3x", "fp32", "nf4", "fine")
    shown = line(table, "unseen", "fine")
    assert shown[4] == f"{points(found.value)} ({interval((found.low, found.high))})" and len(table.sections[0]) == 10
    assert "ecr-1x in fp32, 3 seeds" in table.caption and "finetune-3x in nf4, 3 seeds" in table.caption


@pytest.mark.parametrize("b", ["finetune-3x", "finetune-1x:nf4", "shuffled-1x", "codes-only-1x"])
def test_the_boards_p_and_word_stand_beside(runs: tuple[Path, Made], b: str) -> None:
    """Where the two meet there; the word only the way round that the board asks."""
    folder, made = runs
    a = "ecr-1x" + (":nf4" if b.endswith("nf4") else "")
    forward, back = (compare_references(f"{folder}/one:{x}", f"{folder}/one:{y}") for x, y in ((a, b), (b, a)))
    name, _, precision = b.partition(":")
    for c in board_of(made).contrasts:
        if (str(c.a), str(c.b), c.precision, c.precision_b) == ("ecr-1x", name, *[precision or "fp32"] * 2):
            assert line(forward, c.group, c.task)[-1] == line(back, c.group, c.task)[-1] == p_value(c.p_holm)
            said = f"{c.group} {c.task} {c.verdict}"
            assert said in forward.caption and said not in back.caption
    assert line(forward, "unseen", "slot")[-1] == DASH and forward.columns[-1] == "board"


def test_nothing_of_a_board_where_the_two_do_not_meet(runs: tuple[Path, Made]) -> None:
    folder, _ = runs
    for a, b in (
        ("one:ecr-1x", "two:ecr-1x"),
        ("one:ecr-1x-0", "one:finetune-3x"),
        ("one:shuffled-1x", "one:finetune-3x"),
    ):
        assert "board" not in compare_references(f"{folder}/{a}", f"{folder}/{b}").columns


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
    # the table of differences goes on below, each line with its words again
    assert max(map(len, shown)) <= 80 and sum("±" not in x and x.strip().startswith("unseen") for x in shown) == 2 * 5


# --- folders of `ecr-bench eval` ------------------------------------------------------------------


def evaluated(folder: Path) -> Path:
    made = make({"ecr-1x": 0.5}, seeds=1, precisions=("fp32",), items=5)
    write_evaluation(folder, made.records, {"tasks": {}, "results": [{"accuracy": 0.5}]})
    return folder


def flip(folder: Path) -> None:
    made = make({"ecr-1x": 0.9}, seeds=1, precisions=("fp32",), items=5)
    write_records(folder / "records.parquet", made.records)


def edit(folder: Path) -> None:
    path = folder / "eval.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))


def forget_hashes(folder: Path) -> None:
    (folder / "eval.json").write_text('{"tasks": {}}')


@pytest.mark.parametrize(
    ("tamper", "words", "code"),
    [
        (flip, r"records\.parquet: was changed", 3),
        (edit, r"eval\.json: was changed", 3),
        (lambda folder: (folder / "records.parquet").unlink(), r"records\.parquet: missing", 3),
        (forget_hashes, "written by an older version", 2),
    ],
)
def test_a_changed_evaluation_is_not_compared(tamper: Any, words: str, code: int, tmp_path: Path) -> None:
    one, two = evaluated(tmp_path / "one"), evaluated(tmp_path / "two")
    assert EvalFolder(one).pick("").arm == EvalFolder(two).arm
    compare_references(str(one), str(two))
    tamper(two)
    with pytest.raises(UserError, match=words) as caught:
        compare_references(str(one), str(two))
    assert caught.value.exit_code == code and isinstance(caught.value, DamagedError) == (code == 3)
