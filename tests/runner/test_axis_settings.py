"""What series and values of an axis set: whole or in part, and rates that somebody is trained at."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.runner.ablation import load_ablation
from ecr_bench.runner.plan import make_plan
from tests.runner.test_ablation import written


@pytest.mark.parametrize("where", ["value", "series"])
def test_an_axis_that_sets_a_whole_and_its_part_is_refused(tmp_path: Path, where: str) -> None:
    both = {"set": {"finetune": {"steps": 5}, "finetune.steps": 3}}
    values = [{"label": "a", **(both if where == "value" else {})}, {"label": "b", "set": {"finetune.steps": 4}}]
    series = [{"label": "ecr", **(both if where == "series" else {})}]
    with pytest.raises(UserError, match=r"finetune is set as a whole and finetune\.steps by itself"):
        load_ablation(written(tmp_path, axis={"label": "x", "values": values, "series": series}), {})


def test_a_value_changes_part_of_what_its_series_sets_whole(tmp_path: Path) -> None:
    whole = {**config.load("tiny").model_dump(mode="json")["sizes"]["1x"], "layers": 3}
    series = [{"label": "plain", "method": "finetune", "set": {"sizes.1x": whole, "finetune.steps": 3}}]
    values = [
        {"label": "a", "set": {"sizes.1x.layers": 1}},
        {"label": "b", "set": {"finetune": {"steps": 5}}},
    ]
    ablation = load_ablation(written(tmp_path, axis={"label": "x", "values": values, "series": series}), {})
    one, other = ablation.experiment.cells[-2:]
    assert one.set == {"sizes.1x": {**whole, "layers": 1}, "finetune.steps": 3}
    assert other.set == {"sizes.1x": whole, "finetune": {"steps": 5}}


def test_a_rate_that_is_not_used_is_refused(tmp_path: Path) -> None:
    values = [{"label": f"{rate}", "at": rate, "set": {"finetune.learning_rate": rate}} for rate in (0.1, 1.0)]
    axis = {"label": "rate", "values": values, "series": [{"label": "plain", "method": "finetune"}]}
    given = {"sizes": {"1x": {"learning_rate": 0.012}}, "axis": axis}
    said = r"cells\.set: finetune\.learning_rate: size 1x has a learning rate of its own, 0\.012, in place of it"
    with pytest.raises(UserError, match=said):
        make_plan(load_ablation(written(tmp_path, **given), {}).experiment)
    with pytest.raises(UserError, match=said):  # whole or in part
        make_plan(
            load_ablation(written(tmp_path, **given), {}).experiment.with_overrides(
                {"cells": [{"method": "finetune", "set": {"finetune": {"learning_rate": 0.5}}}]}
            )
        )
    tuned = [{"method": "finetune", "sizes": ["1x", "3x"], "set": {"finetune.learning_rate": 0.5}}]
    with pytest.raises(UserError, match=said.replace("cells", "tuned")):
        make_plan(load_ablation(written(tmp_path, **given, tuned=tuned), {}).experiment)
    freed = load_ablation(written(tmp_path, **given), {"sizes.1x.learning_rate": None}).experiment
    rates = {str(cell.arm): make_plan(freed).stages[cell.train].settings.finetune.learning_rate
             for cell in make_plan(freed).cells if cell.arm.settings}  # fmt: skip
    assert rates == {f"finetune-1x[finetune.learning_rate={rate}]": rate for rate in (0.1, 1.0)}


def test_a_rate_that_only_whom_an_arm_learns_from_reads_is_taken() -> None:
    """The plain model that it learns from is another size, without a rate of its own."""
    cells = [{"method": "finetune", "with": ["distill"], "set": {"finetune.learning_rate": 0.5}}]
    given = {"sizes.1x.learning_rate": 0.02, "options.distill.size": "3x", "cells": cells}
    plan = make_plan(config.load("tiny").with_overrides(given))
    trained = {stage.settings.finetune.learning_rate for stage in plan.stages.values() if stage.kind == "train"}
    assert trained == {0.02, 0.5}
