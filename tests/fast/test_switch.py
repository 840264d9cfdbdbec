"""``ECR_BENCH_PLAIN=1`` takes the plain twin of every piece: the same numbers, stages of their own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ecr_bench import fast
from ecr_bench.cli import main
from ecr_bench.config import load
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records
from ecr_bench.fast import chunked, labelled, parts, scorer
from ecr_bench.fast.packing import Request
from ecr_bench.fast.switch import VARIABLE, plain
from ecr_bench.fast.templates import compiled_once
from ecr_bench.methods.base import cross_entropy
from ecr_bench.quiet import quiet_libraries
from ecr_bench.results.notes import _plain_note
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.store import Store
from tests.helpers.architectures import ARCHITECTURES, V, build
from tests.helpers.planned import changed, laid_out, with_what_rests_on
from tests.helpers.training import batch, gradients

PIECES = Path(fast.__file__).parent
CALLED = {"chunked", "labelled", "parts", "scorer", "templates"}
"""What decides which way to go; the other modules of the folder are parts of these."""


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")


@pytest.mark.parametrize(("value", "wanted"), [("", False), ("0", False), ("1", True)])
def test_what_the_variable_says(value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert plain() == wanted


def test_another_value_is_one_line_and_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(UserError, match="allowed are 0 and 1"):
        plain()
    with pytest.raises(SystemExit) as caught:
        main(["run", "tiny", "--out", str(tmp_path / "out")])
    assert caught.value.code == 2 and f"{VARIABLE}=yes" in capsys.readouterr().err
    assert not (tmp_path / "out" / "store").exists()


def test_every_piece_asks_the_switch() -> None:
    asks = set()
    for path in PIECES.glob("*.py"):
        names = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        asks |= {path.stem} if "plain" in names else set()
    assert asks == CALLED


def test_others_import_only_what_asks_it() -> None:
    for path in PIECES.parent.rglob("*.py"):
        if path.parent == PIECES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ecr_bench.fast."):
                assert str(node.module).rsplit(".", 1)[1] in CALLED | {"switch"}, path


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_losses_and_gradients(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = build(kind), batch()
    loss = cross_entropy(model, given)
    found = gradients(model, loss)
    monkeypatch.setenv(VARIABLE, "1")
    again = cross_entropy(model, given)
    expected = gradients(model, again)
    assert loss.item() == pytest.approx(again.item(), rel=2e-5) and found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-3 * gradient.abs().max().clamp(min=1e-3), name


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_log_likelihoods(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, draw = build(kind).eval(), np.random.default_rng(0)
    contexts = [tuple(draw.integers(3, V, n).tolist()) for n in (3, 9, 5)]
    requests = [Request(context, tuple(draw.integers(3, V, n).tolist())) for context in contexts for n in (1, 2, 3)]
    found = scorer.loglikelihoods(model, requests, pad_id=0, max_length=32)
    monkeypatch.setenv(VARIABLE, "1")
    done: list[int] = []
    expected = scorer.loglikelihoods(model, requests, pad_id=0, max_length=32, on_progress=done.append)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected] and sum(done) == len(requests)
    with pytest.raises(ValueError, match="empty continuation"):
        scorer.loglikelihoods(model, [Request((3,), ())], pad_id=0, max_length=32)


def test_nothing_is_cut_apart(plainly: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the head's positions, nor the logits, nor the batch, nor rows that share a context."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a piece was used")

    monkeypatch.setattr(labelled, "after_head", never)
    monkeypatch.setattr(chunked._Chunked, "apply", never)
    monkeypatch.setattr(parts, "checkpoint", never)
    monkeypatch.setattr(scorer, "pack", never)
    model = build("llama")
    model.parts = 2
    cross_entropy(model, batch()).backward()
    head, states = torch.nn.Linear(4, 9), torch.randn(8, 4, requires_grad=True)
    chunked.chunked_loss(head, states, lambda logits, at: logits.sum()[None], elements=9)[0].backward()
    assert states.grad is not None
    scorer.loglikelihoods(model.eval(), [Request((3, 4), (5,)), Request((3, 4), (6,))], pad_id=0, max_length=8)
    assert compiled_once(str) is str


def test_exactly_the_stages_that_could_be_faster_get_another_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = laid_out()
    monkeypatch.setenv(VARIABLE, "1")
    after = laid_out()
    able = {name for name, stage in before.items() if any("ecr_bench.fast." in file for file in stage.identity.files)}
    assert changed(before, after) == with_what_rests_on(before, able)
    assert {"base", "train", "score"} <= {kind for kind, _ in able}
    assert not {"corpus", "tokenizer", "items", "teacher"} & {kind for kind, _ in able}
    for name in able:
        assert f"{VARIABLE} (0, now 1)" in before[name].identity.differences(after[name].identity)


def test_a_board_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _plain_note(make_plan(load("tiny"))) == []
    monkeypatch.setenv(VARIABLE, "1")
    (note,) = _plain_note(make_plan(load("tiny")))
    assert VARIABLE in note


CELLS = [
    {"method": "finetune", "sizes": ["1x", "3x"]},
    {"method": "ecr", "sizes": ["1x"]},
    {"method": "relational", "sizes": ["1x"]},
    {"method": "ecr", "with": [{"distill": {"cache_top_k": 8}}], "sizes": ["1x"]},
]


def records(out: Path) -> dict[str, pd.DataFrame]:
    """Of each cell of ``tiny``, run here, with losses in chunks of a few positions and a size in parts."""
    settings = {"cells": CELLS, "sizes.3x.accumulate": 2, "precisions": ["fp32"], "geometry.measure": False}
    plan, store = make_plan(load("tiny").with_overrides(settings)), Store(out)
    for stage in plan.stages.values():
        run_stage(stage, store, lambda done, total: None)
    return {cell.label: read_records(store.path(cell.score) / "records.parquet") for cell in plan.cells}


@pytest.mark.slow
def test_a_whole_run_gives_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet_libraries()
    monkeypatch.setattr(chunked.chunked_loss, "__defaults__", (5000,))
    found = records(tmp_path / "fast")
    monkeypatch.setenv(VARIABLE, "1")
    expected = records(tmp_path / "plain")
    assert found.keys() == expected.keys() and len(found) == 5
    for label, frame in expected.items():
        mine, theirs = (np.stack(table["loglikelihoods"].to_list()) for table in (found[label], frame))
        assert list(found[label]["item_id"]) == list(frame["item_id"])
        near = 1e-3 * (1 + np.abs(theirs))
        assert (np.abs(mine - theirs) < near).all(), label
        best = np.sort(theirs, axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * near.max(axis=1)
        assert clear.mean() > 0.8, label
        assert (found[label]["predicted"] == frame["predicted"])[clear].all(), label
