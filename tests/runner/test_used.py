"""The models that a plan is checked for are those that its stages make and read."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from ecr_bench import config
from ecr_bench.config import Experiment
from ecr_bench.errors import UserError
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.preflight import checked_plan
from ecr_bench.runner.store import Store
from ecr_bench.runner.used import used_sizes
from ecr_bench.stages.base_model import BaseStage
from ecr_bench.yaml_files import experiments
from tests.helpers.tiny_models import save

OWN = {"teacher.name": "checkpoint", "teacher.options": {"size": "3x", "state": "base"}}
LEARNERS = {
    "distilled base": {"pretrain.distill": "3x", "cells": [{"method": "ecr"}]},
    "distilled": {"cells": [{"method": "ecr", "with": ["distill"]}]},
    "teacher": {**OWN, "cells": [{"method": "ecr"}]},
    "fine-tuned teacher": {**OWN, "teacher.options": {"size": "3x"}, "cells": [{"method": "ecr"}]},
    "geometry alone": {**OWN, "cells": [{"method": "finetune"}]},
    "no geometry": {**OWN, "geometry.measure": False, "cells": [{"method": "finetune"}]},
    "tuned": {
        "pretrain.distill": "3x",
        "tuned": [{"method": "finetune", "sizes": ["3x"], "set": {"pretrain.steps": 7}}],
        "cells": [{"method": "ecr", "set": {"pretrain.batch_size": 5}}],
    },
}


def bases(plan: Plan) -> set[tuple[str, int, int]]:
    """Shape, steps and rows of each base that a plan makes."""
    made = [stage.settings for stage in plan.stages.values() if stage.kind == BaseStage.kind]
    return {(base.size.model_dump_json(), base.pretrain.steps, base.pretrain.batch_size) for base in made}


def used(plan: Plan) -> set[tuple[str, int, int]]:
    found = set()
    for one in used_sizes(plan):
        shape = one.settings.sizes[one.name].model_copy(update={"learning_rate": None})
        steps = one.settings.pretrain.steps if "pretrain" in one.trained else 0
        found.add((shape.model_dump_json(), steps, one.settings.pretrain.batch_size))
    return found


@pytest.mark.parametrize("name", LEARNERS)
def test_sizes_are_those_whose_bases_are_made(name: str) -> None:
    plan = make_plan(config.load("tiny").with_overrides(LEARNERS[name]))
    assert used(plan) == bases(plan)


def test_each_is_listed_once_with_why_it_is_used() -> None:
    plan = make_plan(config.load("tiny").with_overrides(LEARNERS["fine-tuned teacher"]))
    assert [(one.name, one.key, one.trained) for one in used_sizes(plan)] == [
        ("1x", "", ("pretrain", "finetune")),
        ("3x", "teacher.options.size", ("pretrain", "finetune")),
    ]


def test_sizes_of_pretrained_models(tmp_path: Path) -> None:
    """The larger one is read as it came where only its logits are learned from."""
    models = {f"sizes.{name}.model": str(save("llama", tmp_path / "model", layers=5)) for name in ("1x", "3x")}
    own = {"teacher.name": "checkpoint", "teacher.options": {"size": "3x", "state": "pretrained", "layer": 5}}
    cells = [{"method": "finetune", "set": {"pretrain.distill": "3x"}}, {"method": "ecr"}]
    small = {"sizes.1x.layers": 3, "cells": cells, **models, **own}
    plan = make_plan(config.load("compressed").with_overrides(small))
    learned = [one for one in used_sizes(plan) if one.key]
    assert [(one.name, one.key, one.trained) for one in learned] == [
        ("3x", "pretrain.distill", ()),
        ("3x", "teacher.options.size", ()),
    ]
    assert {shape_and_steps[:2] for shape_and_steps in used(plan)} == {base[:2] for base in bases(plan)}


def plannable(name: str) -> Experiment:
    """Shipped ones name models of the hub, which are not to be had in a test."""
    experiment = config.load(name)
    if any(hasattr(size, "model") for size in experiment.sizes.values()) or experiment.teacher.name == "hf":
        pytest.skip("reads a model of the hub")
    return experiment


@pytest.mark.parametrize("name", [name for name in experiments() if not name.startswith("ablation")])
def test_sizes_of_what_we_ship(name: str) -> None:
    experiment = plannable(name)
    try:
        plan = make_plan(experiment)
    except UserError as error:
        pytest.skip(str(error))
    assert used(plan) == bases(plan)


def test_a_plan_whose_teacher_is_too_large_is_refused_in_one_line(tmp_path: Path) -> None:
    shape = {"hidden_size": 131_072, "layers": 1_000, "heads": 1_024, "intermediate_size": 1_048_576}
    experiment = config.load("tiny").with_overrides({**LEARNERS["teacher"], "sizes.3x": shape})
    with pytest.raises(UserError, match=r"^tiny: sizes\.3x: training") as caught:
        checked_plan(experiment, Store(tmp_path / "out"), Console(quiet=True), "tiny")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
