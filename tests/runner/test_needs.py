"""What memory cannot hold is refused before anything runs, and what it can is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.methods.models import count_parameters, create_model
from ecr_bench.publish import Execution, run_and_publish
from ecr_bench.runner import needs
from ecr_bench.runner.plan import make_plan
from ecr_bench.yaml_files import experiments

BIG = {"hidden_size": 131_072, "layers": 1_000, "heads": 1_024, "intermediate_size": 1_048_576}


def test_parameters_are_those_of_the_model(size: Any, tokenizer: Any) -> None:
    assert needs.parameters(size, len(tokenizer)) == count_parameters(create_model(size, tokenizer, 0))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"sizes.1x": BIG}, ["sizes.1x", "parameters"]),
        (
            {"sizes.1x.layers": 1_000, "sizes.1x.intermediate_size": 1_048_576, "sizes.1x.hidden_size": 8192},
            ["sizes.1x"],
        ),
        ({"finetune.batch_size": 1_000_000, "sizes.1x.hidden_size": 2048}, ["finetune.batch_size", "1,000,000 rows"]),
        ({"pretrain.batch_size": 1_000_000, "sizes.1x.hidden_size": 2048}, ["pretrain.batch_size"]),
    ],
)
def test_what_cannot_fit_is_one_line_and_leaves_nothing(
    overrides: dict[str, Any], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "model_memory", lambda: 24 * 2**30)
    experiment = config.load("tiny").with_overrides(overrides)
    with pytest.raises(UserError) as caught:
        run_and_publish(experiment, Execution(tmp_path / "runs", Console(quiet=True)))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in [*parts, "24.0 GiB", "tiny"]), message
    assert not (tmp_path / "runs").exists()


def test_what_a_cell_sets_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "model_memory", lambda: 2**30)
    plain = config.load("tiny")
    needs.check_memory(make_plan(plain))
    cells = [{"method": "finetune", "sizes": ["1x"], "set": {"finetune.batch_size": 1_000_000}}]
    with pytest.raises(UserError, match=r"finetune\.batch_size"):
        needs.check_memory(make_plan(plain.with_overrides({"cells": cells})))


def test_parts_of_a_batch_need_less() -> None:
    tiny = config.load("tiny")
    whole, parts = (
        {need.key: need.bytes for need in needs.needs(tiny.with_overrides({"sizes.1x.accumulate": n}), "1x")}
        for n in (1, 4)
    )
    assert parts["finetune.batch_size"] < whole["finetune.batch_size"] and parts["sizes.1x"] == whole["sizes.1x"]


@pytest.mark.parametrize("name", [name for name in experiments() if not name.startswith("ablation")])
def test_what_we_ship_fits_a_common_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = config.load(name)
    for spec in experiment.cells:
        for size in spec.sizes:
            assert all(need.bytes < 8 * 2**30 for need in needs.needs(experiment.tuned_for(spec, size), size))
