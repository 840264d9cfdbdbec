"""What finished stages say becomes rows of costs, whether a model diverged in training, in scoring or before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecr_bench.config import load
from ecr_bench.results.cells import CellCosts, comparable, mixed_note
from ecr_bench.results.collect import collect_cells
from ecr_bench.results.notes import _one_training_notes, _rate_note
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.ran import Ran
from ecr_bench.runner.store import Store
from ecr_bench.stages.score import Cost, Scored, ScoreStage
from ecr_bench.stages.train import Trained, TrainStage
from tests.helpers.world import arm

TRAINED = Trained(parameters=990, side_parameters=40, train_seconds=2.5, peak_memory=7, steps=4, train_loss=1.5)
RAN = Ran(
    host="h", cpu="x", gpu=None, device="cpu", threads=1, date="", seconds=1.0, peak_memory=5, ecr_bench="", python="",
    packages={},
)  # fmt: skip
COST = Cost(bytes=100, disk_bytes=120, scoring_memory=9, ms_per_item=0.5)


def stored(root: Path, **results: dict[str, Any]) -> Store:
    store = Store(root)
    for stage, result in results.items():
        store.write(f"{stage}/a", lambda folder, result=result: {"result": result})
    return store


def collected(store: Store) -> dict[str, CellCosts]:
    """Precision -> row, of one cell scored at two."""
    cell = SimpleNamespace(
        label="ecr-1x-s0", arm=arm("ecr-1x"), seed=0, train="train/a", score="score/a", base="base/a"
    )
    settings = SimpleNamespace(precisions=("fp32", "int8"))
    plan: Any = SimpleNamespace(cells=[cell], stages={"score/a": SimpleNamespace(settings=settings)})
    return {row.precision: row for row in collect_cells(plan, store)}


def test_costs_of_training_are_shared_and_those_of_scoring_are_not(tmp_path: Path) -> None:
    scored = Scored(items=3, cut={}, precisions={"fp32": COST, "int8": COST.model_copy(update={"bytes": 25})})
    store = stored(tmp_path, train=TRAINED.model_dump(mode="json"), score=scored.model_dump(mode="json"))
    rows = collected(store)
    assert [row.bytes for row in rows.values()] == [100, 25]
    for row in rows.values():
        assert (row.parameters, row.side_parameters, row.steps, row.train_loss) == (990, 40, 4, 1.5)
        assert (row.base, row.stage, row.diverged, row.val_loss) == ("base/a", "train/a", "", None)


def test_a_precision_that_diverged_keeps_what_it_cost(tmp_path: Path) -> None:
    broken = COST.model_copy(update={"diverged": "not finite", "ms_per_item": None})
    scored = Scored(items=3, cut={}, precisions={"fp32": COST, "int8": broken})
    store = stored(tmp_path, train=TRAINED.model_dump(mode="json"), score=scored.model_dump(mode="json"))
    assert {name: row.diverged for name, row in collected(store).items()} == {"fp32": "", "int8": "not finite"}


@pytest.mark.parametrize("trained", [{"diverged": "its base model diverged"}, None])
def test_a_model_that_was_not_scored_says_why_at_every_precision(
    tmp_path: Path, trained: dict[str, Any] | None
) -> None:
    own = TRAINED.model_copy(update={"diverged": "loss is not finite"}).model_dump(mode="json")
    store = stored(tmp_path, train=trained or own, score={"diverged": "inherited"})
    rows = collected(store)
    assert {row.diverged for row in rows.values()} == {"inherited"} and {row.bytes for row in rows.values()} == {None}
    assert {row.parameters for row in rows.values()} == {None if trained else 990}
    assert store.find(ScoreStage, "score/a") is None and (store.find(TrainStage, "train/a") is None) == bool(trained)


PLACES = {"trained_on": ("train_seconds", "peak_memory"), "scored_on": ("ms_per_item", "scoring_memory")}


@pytest.mark.parametrize("place", PLACES)
def test_what_ran_on_different_hardware_is_not_set_side_by_side(place: str) -> None:
    """Each kind of hardware, of training and of scoring: its costs go, the other's stay, and the board says so."""
    costs = {"train_seconds": 2.5, "peak_memory": 7, "ms_per_item": 0.5, "scoring_memory": 9, "bytes": 3}
    names = {"arm": arm("ecr-1x"), "seed": 0, "precision": "fp32", "trained_on": "A", "scored_on": "A"}
    cells = [CellCosts(cell=f"c{i}", **{**names, **costs, place: on}) for i, on in enumerate(("A", "B", ""))]
    (other,) = set(PLACES) - {place}
    for cell in comparable(cells):
        assert all(getattr(cell, name) is None for name in PLACES[place])
        assert all(getattr(cell, name) == costs[name] for name in (*PLACES[other], "bytes"))
    (note,) = mixed_note(comparable(cells))
    assert "different hardware (A; B)" in note and "left out" in note
    equal = [cell.model_copy(update={place: "A"}) for cell in cells]
    assert comparable(equal) == equal and mixed_note(equal) == []


def test_a_cell_says_what_it_ran_on(tmp_path: Path) -> None:
    scored = Scored(items=3, cut={}, precisions={"fp32": COST, "int8": COST})
    store, ran = Store(tmp_path), RAN.model_dump(mode="json")
    for stage, result, threads in (("train", TRAINED, 1), ("score", scored, 2)):
        record = {"result": result.model_dump(mode="json"), "ran": {**ran, "threads": threads}}
        store.write(f"{stage}/a", lambda folder, record=record: record)
    assert {(row.trained_on, row.scored_on) for row in collected(store).values()} == {("x, 1 threads", "x, 2 threads")}
    on_gpu = RAN.model_copy(update={"device": "cuda", "gpu": "G"})
    assert on_gpu.hardware == on_gpu.model_copy(update={"threads": 9, "cpu": "y"}).hardware == "G"


def test_one_training_under_two_names_is_told():
    """A setting that an arm does not read makes a name, and no other training."""
    cells = [{"method": "finetune"}, {"method": "ecr"}]
    cells += [{"method": name, "set": {"control_tokens.count": 1}} for name in ("finetune", "ecr")]
    (note,) = _one_training_notes(make_plan(load("tiny").with_overrides({"cells": cells})))
    assert note == (
        "One training under 2 names, what tells them apart changes nothing: finetune-1x, "
        "finetune-1x[control_tokens.count=1]."
    )


def test_a_board_says_which_sizes_have_a_rate_of_their_own():
    cells = [{"method": "finetune", "sizes": ["1x"]}]
    rates = {"sizes.1x.learning_rate": 0.012, "sizes.3x.learning_rate": 0.003, "finetune.learning_rate": 0.5}
    (note,) = _rate_note(make_plan(load("tiny").with_overrides({"cells": cells, **rates})))
    assert note == "Learning rate of a size, in place of that of pre-training and fine-tuning: 1x 0.012."
    assert not list(_rate_note(make_plan(load("tiny").with_overrides({"cells": cells}))))
