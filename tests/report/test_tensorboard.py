"""What TensorBoard is given, read back from the files: scalars, HPARAMS, projector, text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from ecr_bench.config import CorpusConfig, load
from ecr_bench.corpora.base import RawRow, from_rows
from ecr_bench.data.parallel import parallel_rows
from ecr_bench.report.tensorboard import (
    CONFIG,
    MOST_POINTS,
    add_projection,
    ordered_columns,
    read_curves,
    thin,
    write_tensorboard,
)
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.collect import collect_arms
from ecr_bench.run import Run
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.store import Store
from ecr_bench.types import Measure
from tests.helpers.world import Made, board_of, make

DIMENSIONS = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan, pd.DataFrame]:
    """A store as training leaves it (event files, one snapshot, a corpus) and what is made of it."""
    root = tmp_path_factory.mktemp("store")
    plan, store = make_plan(load("tiny")), Store(root)
    for stage_id in {cell.base for cell in plan.cells} | {cell.train for cell in plan.cells}:
        with SummaryWriter(str(store.path(stage_id) / "tensorboard")) as writer:
            for step in (0, 10):
                writer.add_scalar("train/loss", 2.0 - step / 10, step)
                writer.add_scalar("epoch", 0, step)
    texts = [(lang, i) for lang in ("en", "de", "ja") for i in range(40)]
    rows = [RawRow(f"{lang}\t{i}", lang, f"m{i}", f"label{i % 3}", f"u{i}", split="test") for lang, i in texts]
    config = CorpusConfig(name="files", options={"path": "x"})
    corpus = from_rows(rows, config=config, source="test", licence="none")
    first = plan.cells[0]
    corpus.save(store.path(plan.stages[first.train].inputs["corpus"]) / "corpus")
    n = len(parallel_rows(corpus.dataset.to_pandas(), plan.stages[first.train].settings.pooling.per_language))
    states = np.arange(n * DIMENSIONS, dtype=np.float16).reshape(n, DIMENSIONS)
    save_file({"step-000002": states * 0, "step-000004": states}, store.path(first.train) / "snapshots.safetensors")
    frames, cells = [], []
    base, *_ = make({"ecr-1x": 0.5}, seeds=1, items=10, precisions=("fp32",))
    for i, cell in enumerate(plan.cells):
        names: dict[str, Any] = {"cell": cell.label, "seed": cell.seed}
        frames.append(base.assign(**names, arm=str(cell.arm), correct=np.arange(len(base)) % 8 > i))
        cells.append(CellCosts(**names, arm=cell.arm, precision="fp32", parameters=100 + i, val_loss=1.5))
    measures = [
        Measure("cka_base", value, step=step, cell=first.label, arm=first.arm)
        for step, value in ((2, 0.9), (4, 0.8), (None, 0.75))
    ]
    measures.append(Measure("diverged", None, cell=first.label, arm=first.arm))
    measures.append(Measure("mexa", 0.5, step=4, cell=first.label, arm=first.arm))  # one snapshot is no curve
    records = pd.concat(frames, ignore_index=True)
    made = Made(records, collect_arms(plan), cells)
    run = Run("tiny", made.arms, board_of(made), cells, measures, own_records=records)
    write_tensorboard(root / "tensorboard", plan, store, run)
    return root / "tensorboard", plan, records


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def test_every_cell_and_base_is_a_run_with_a_readable_name(written: tuple[Path, Plan, pd.DataFrame]) -> None:
    folder, plan, _ = written
    bases = {"pre-train-base-1x", "pre-train-base-3x"}
    assert {p.name for p in folder.iterdir()} == {cell.label for cell in plan.cells} | bases | {CONFIG}
    for run in (*bases, plan.cells[0].label):  # pre-training and fine-tuning under one name
        assert [e.value for e in events(folder / run).Scalars("train/loss")] == [2.0, 1.0]
    text = events(folder / CONFIG).Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "name: tiny" in text and "learning_rate" in text


def hparams_of(found: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    return plugin_data_pb2.HParamsPluginData.FromString(found.summary_metadata[tag].plugin_data.content)


def test_hparams_hold_settings_and_what_came_out_of_all_cells(written: tuple[Path, Plan, pd.DataFrame]) -> None:
    folder, plan, records = written
    columns, metrics = set(), set()
    for cell in plan.cells:
        found = events(folder / cell.label)
        given = hparams_of(found, "_hparams_/session_start_info").session_start_info.hparams
        settings = {name: value.string_value for name, value in given.items()}
        assert (settings["arm/method"], settings["arm/size"], settings["arm/seed"]) == (
            cell.arm.name,
            cell.arm.size,
            str(cell.seed),
        )
        count = dict(cell.arm.settings).get("control_tokens.count", "as the experiment")
        assert settings["arm/control_tokens.count"] == str(count)
        experiment = hparams_of(found, "_hparams_/experiment").experiment
        columns.add(tuple(info.name for info in experiment.hparam_infos))
        metrics.add(tuple(info.name.tag for info in experiment.metric_infos))
        mine = records[(records["cell"] == cell.label) & (records["group"] == "unseen")]
        expected = mine.groupby("task")["correct"].mean().mean()
        assert given["result 001 accuracy/unseen_all_fp32"].number_value == pytest.approx(expected)
        results = {name[len("result 000 ") :]: value.number_value for name, value in given.items()}
        assert results["final/val_loss"] == 1.5 and ("final/cka_base" in results) == (cell is plan.cells[0])
    (names,), (curves,) = columns, metrics  # one set of columns for all cells
    assert all(name.startswith("arm/") for name in sorted(names)[:3])  # settings first, as the tab sorts them
    assert {"final/val_loss", "final/cka_base"} <= {name[len("result 000 ") :] for name in names}
    assert curves == ("train/loss", "val/loss")


def test_every_scalar_is_a_curve(written: tuple[Path, Plan, pd.DataFrame]) -> None:
    folder, plan, _ = written
    for run in (path for path in folder.iterdir() if path.is_dir()):
        found = events(run)
        assert all(len(found.Scalars(tag)) > 1 for tag in found.Tags()["scalars"]), run.name
    found = events(folder / plan.cells[0].label)
    assert [(e.step, round(e.value, 3)) for e in found.Scalars("measures/cka_base")] == [(2, 0.9), (4, 0.8)]
    assert set(found.Tags()["scalars"]) == {"train/loss", "measures/cka_base"}


def test_projector_shows_the_last_snapshot_with_language_and_label(written: tuple[Path, Plan, pd.DataFrame]) -> None:
    folder, plan, _ = written
    run = folder / plan.cells[0].label
    assert "00004/pooled/tensors.tsv" in (run / "projector_config.pbtxt").read_text()
    states = np.loadtxt(run / "00004" / "pooled" / "tensors.tsv", delimiter="\t")
    header, *lines = (run / "00004" / "pooled" / "metadata.tsv").read_text().splitlines()
    assert header == "lang\tlabel\tpair\ttext" and states.shape == (len(lines), DIMENSIONS) and len(lines) > 20
    assert states[1, 0] == DIMENSIONS  # the second row is the second row of the snapshot
    lang, label, pair, text = lines[2].split("\t")
    assert lang in ("de", "ja") and label.startswith("label") and pair == "1" and text.split(" ")[0] == lang
    assert lines[3].split("\t")[:1] == ["en"] and lines[3].split("\t")[2] == "1"
    assert not (folder / plan.cells[1].label / "projector_config.pbtxt").exists()  # it has no snapshot


def test_projection_is_capped_in_whole_pairs(tmp_path: Path) -> None:
    pairs = MOST_POINTS
    rows = pd.DataFrame({"text": "t", "lang": "de", "label": "l", "pair": np.repeat(np.arange(pairs), 2)})
    with SummaryWriter(str(tmp_path)) as writer:
        add_projection(writer, np.zeros((2 * pairs, 2), dtype=np.float32), rows, 7)
    lines = (tmp_path / "00007" / "pooled" / "metadata.tsv").read_text().splitlines()[1:]
    numbers = [int(line.split("\t")[2]) for line in lines]
    assert len(numbers) == MOST_POINTS and numbers[::2] == numbers[1::2] and numbers[-1] == pairs - 1


def test_columns_are_numbered_headline_first_reference_precision_first() -> None:
    names = ["accuracy/unseen_all_fp32", "accuracy/unseen_all_bf16", "accuracy/unseen_fine_fp32",
             "accuracy/seen_all_fp32", "final/x"]  # fmt: skip
    columns = ordered_columns(set(names), ["fp32", "bf16"])
    assert list(columns) == names and sorted(columns.values()) == list(columns.values())
    assert columns["accuracy/unseen_all_fp32"] == "result 001 accuracy/unseen_all_fp32"


def test_thin_keeps_ends_and_spikes() -> None:
    points = [(float(i), 100.0 if i == 777 else 1.0) for i in range(1000)]
    kept = thin(points, 50)
    assert len(kept) == 50 and kept[0] == (0.0, 1.0) and kept[-1] == (999.0, 1.0) and (777.0, 100.0) in kept
    assert thin(points[:50], 50) == tuple(points[:50])


def test_curves_are_read_back_from_tensorboard(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "ecr-1x-s0")) as writer:
        for step, value in enumerate([2.0, float("nan"), 1.0]):
            writer.add_scalar("train/loss", value, step)
        writer.add_scalar("epoch", 1, 0)
    (tmp_path / "empty").mkdir()
    assert read_curves(tmp_path) == {"ecr-1x-s0": {"train/loss": ((0.0, 2.0), (2.0, 1.0))}}
    assert read_curves(tmp_path / "missing") == {}
