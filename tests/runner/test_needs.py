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
    assert "\n" not in message and all(part in message for part in [*parts, "25.8 GB", "tiny"]), message
    assert not (tmp_path / "runs").exists()


def test_what_a_cell_sets_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "model_memory", lambda: 2**30)
    plain = config.load("tiny")
    needs.check_memory(make_plan(plain))
    cells = [{"method": "finetune", "sizes": ["1x"], "set": {"finetune.batch_size": 1_000_000}}]
    with pytest.raises(UserError, match=r"finetune\.batch_size"):
        needs.check_memory(make_plan(plain.with_overrides({"cells": cells})))


LEARNS: dict[str, dict[str, Any]] = {
    "pretrain.distill": {"pretrain.distill": "3x"},
    "options.distill.size": {"cells": [{"method": "finetune", "with": ["distill"]}]},
    "teacher.options.size": {"teacher.name": "checkpoint", "teacher.options": {"size": "3x", "state": "base"}},
}


@pytest.mark.parametrize("key", LEARNS)
def test_a_size_that_others_learn_from_counts(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "model_memory", lambda: 24 * 2**30)
    learns = config.load("tiny").with_overrides({"cells": [{"method": "ecr"}], "sizes.3x": BIG, **LEARNS[key]})
    with pytest.raises(UserError, match=rf"^tiny: sizes\.3x: training .* \(for {key}\) takes at least"):
        needs.check_memory(make_plan(learns))
    alone = {"pretrain.distill": "", "teacher.name": "usem3", "cells": [{"method": "ecr"}]}
    needs.check_memory(make_plan(learns.with_overrides(alone)))


def test_a_base_that_is_never_fine_tuned_needs_no_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"teacher.name": "checkpoint", "teacher.options": {"size": "3x", "state": "base"}}
    base = config.load("tiny").with_overrides({"cells": [{"method": "ecr"}], "sizes.3x.hidden_size": 1024, **own})
    much = base.with_overrides({"finetune.batch_size": 4096})
    most = max(need.bytes for need in needs.needs(much, "1x"))
    pretrained = max(need.bytes for need in needs.needs(much, "3x") if need.stage == "pretrain")
    monkeypatch.setattr(needs, "model_memory", lambda: max(most, pretrained))
    assert max(need.bytes for need in needs.needs(much, "3x")) > max(most, pretrained)
    needs.check_memory(make_plan(much))
    with pytest.raises(UserError, match=r"finetune\.batch_size: .*teacher\.options\.size"):
        needs.check_memory(make_plan(much.with_overrides({"teacher.options.state": "finetuned"})))


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


def test_the_remedy_is_a_setting_that_fits() -> None:
    """The smallest number of parts, or the leaner optimiser; followed, it passes the same check."""
    crowded = config.load("tiny").with_overrides({"finetune.batch_size": 4096, "sizes.1x.hidden_size": 512})
    whole = max(need.bytes for need in needs.needs(crowded, "1x"))
    limit = whole - 2**20
    said = needs.remedy(crowded, "1x", limit)
    assert said == "--set sizes.1x.accumulate=2 would make it fit"
    fixed = crowded.with_overrides({"sizes.1x.accumulate": 2})
    assert all(need.bytes <= limit for need in needs.needs(fixed, "1x"))
    dear = config.load("tiny").with_overrides({"pretrain.optimiser": "adamw", "sizes.1x.layers": 64})
    (by_adamw, by_muon) = (
        next(iter(needs.needs(dear.with_overrides({"pretrain.optimiser": name}), "1x"))).bytes
        for name in ("adamw", "muon")
    )
    assert by_muon < by_adamw
    most = max(need.bytes for need in needs.needs(dear.with_overrides({"pretrain.optimiser": "muon"}), "1x"))
    assert needs.remedy(dear, "1x", most) == "--set pretrain.optimiser=muon would make it fit"
    assert needs.remedy(dear, "1x", 1000) == "take a smaller size or a larger machine"


def test_states_of_the_optimisers_are_those_torch_keeps(size: Any, tokenizer: Any) -> None:
    import torch

    from ecr_bench.methods.base import CausalLMModule
    from ecr_bench.sections import FinetuneConfig

    for optimiser in ("muon", "adamw"):
        model = create_model(size, tokenizer, 0)
        module = CausalLMModule(model, FinetuneConfig(optimiser=optimiser))
        made = module.configure_optimizers()["optimizer"]
        model(input_ids=torch.ones(1, 4, dtype=torch.long), labels=torch.ones(1, 4, dtype=torch.long)).loss.backward()
        made.step()
        values = [value for state in made.state.values() for value in state.values()]
        moments = sum(value.numel() for value in values if isinstance(value, torch.Tensor) and value.dim())
        count = count_parameters(model)
        assert needs.trained_bytes(size, count, optimiser) == 4 * (2 * count + moments)
