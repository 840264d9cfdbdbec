"""The board in other formats, and in a terminal of 80 columns."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from ecr_bench.cli import main
from ecr_bench.run import Run
from tests.helpers.world import Made, finished, make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    made = make(items=20)
    folder = tmp_path_factory.mktemp("runs")
    finished(folder / "quick", made)
    return folder, made


def export(folder: Path, *arguments: str) -> None:
    main(["board", "quick", "--out", str(folder), "--format", *arguments])


def test_csv_and_parquet_hold_every_row(run: tuple[Path, Made], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = run
    export(folder, "csv")
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    board = Run.load(folder / "quick").board
    assert len(table) == len(board.rows) and {"ci_low", "ci_high", "arm", "run"} <= set(table.columns)
    first = board.rows[3]
    assert (table["mean"][3], table["ci_low"][3]) == pytest.approx((first.mean, first.ci[0]))
    export(folder, "parquet", "--to", str(folder / "out" / "board.parquet"))
    stored = pd.read_parquet(folder / "out" / "board.parquet")
    assert stored["ci_high"].tolist() == pytest.approx(table["ci_high"].tolist())
    export(folder, "markdown")
    assert capsys.readouterr().out == (folder / "quick" / "board.md").read_text()


def test_model_index_is_what_the_hub_reads(run: tuple[Path, Made], capsys: pytest.CaptureFixture[str]) -> None:
    folder, (records, *_) = run
    export(folder, "model-index", "--cell", "ecr-1x-1", "--to", str(folder / "README.md"))
    card = ModelCard((folder / "README.md").read_text() + "\n# A model\n")
    assert isinstance(card.data, ModelCardData) and card.data.eval_results and card.data.model_name == "quick-ecr-1x-1"
    found = {(r.dataset_config, r.metric_config): r for r in card.data.eval_results}
    assert len(found) == 2 * 2 * 5  # groups, precisions, tasks
    mine = records[(records["cell"] == "ecr-1x-1") & (records["precision"] == "nf4") & (records["group"] == "unseen")]
    expected = mine[mine["task"] == "intent"].groupby("lang")["correct"].mean().mean()
    result = found["intent-unseen", "nf4"]
    assert result.metric_value == pytest.approx(expected, abs=1e-6) and result.metric_type == "accuracy"
    assert result.task_type == "multiple-choice" and result.metric_args["seeds"] == 1
    export(folder, "model-index", "--cell", "ecr-1x")
    (arm,) = yaml.safe_load(capsys.readouterr().out.strip().strip("-"))["model-index"]
    assert arm["results"][0]["metrics"][0]["args"]["seeds"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pdf"], ["unknown format 'pdf'", "model-index", "parquet"]),
        (["parquet"], ["needs --to FILE"]),
        (["model-index"], ["needs --cell"]),
        (["csv", "--cell", "ecr-1x"], ["takes no --cell"]),
        (["model-index", "--cell", "ecr-9x"], ["ecr-9x", "finetune-1x-0"]),
    ],
)
def test_bad_requests_are_one_line(
    run: tuple[Path, Made], capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        export(run[0], *arguments)
    text = capsys.readouterr().err
    assert caught.value.code == 2 and text.count("\n") == 1 and all(word in text for word in words), text
