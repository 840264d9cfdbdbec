"""What a plan makes of distillation: which cell teaches, what is shared, what is refused."""

from __future__ import annotations

import pytest

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.runner.plan import make_plan


def planned(**overrides):
    cells = [
        {"method": "finetune", "sizes": ["1x", "3x"]},
        {"method": "finetune", "with": ["distill"]},
        {"method": "ecr", "with": ["distill"]},
    ]
    return make_plan(config.load("tiny").with_overrides({"cells": cells, **overrides}))


def by_label(plan):
    return {cell.label: plan.stages[cell.train] for cell in plan.cells}


def test_the_teacher_is_the_trained_larger_cell_and_is_planned_when_not_listed():
    listed = by_label(planned())
    assert listed["finetune+distill-1x-s0"].inputs["larger"] == listed["finetune-3x-s0"].id
    alone = planned(cells=[{"method": "finetune", "with": ["distill"], "seeds": [0, 1]}])
    assert sum(stage.kind == "score" for stage in alone.stages.values()) == 2
    assert [stage.kind for stage in alone.stages.values()].count("train") == 4
    assert by_label(alone)["finetune+distill-1x-s0"].id == listed["finetune+distill-1x-s0"].id
    seeds = [by_label(alone)[f"finetune+distill-1x-s{seed}"].inputs["larger"] for seed in (0, 1)]
    assert seeds[0] != seeds[1] and set(seeds) <= set(alone.stages)


def test_distill_settings_retrain_the_students_only():
    a, b = by_label(planned()), by_label(planned(**{"options.distill.weight": 0.9, "options.relational.weight": 2.0}))
    assert {label for label in a if a[label].id == b[label].id} == {"finetune-1x-s0", "finetune-3x-s0"}


def test_two_students_share_one_cache():
    plan = planned(**{"options.distill.cache_top_k": 8})
    stages = by_label(plan)
    assert [stage.kind for stage in plan.stages.values()].count("logits") == 1
    assert stages["finetune+distill-1x-s0"].inputs["logits"] == stages["ecr+distill-1x-s0"].inputs["logits"]


def test_missing_teachers_are_named_before_anything_runs(tmp_path, teacher_folder):
    with pytest.raises(UserError, match=r"options\.distill\.size: no size '9x': 'sizes' defines 1x, 3x"):
        planned(**{"options.distill.size": "9x"})
    with pytest.raises(UserError, match=r"options\.distill\.model: no weights"):
        planned(**{"options.distill.model": str(tmp_path)})
    outside = by_label(planned(**{"options.distill.model": str(teacher_folder)}))["finetune+distill-1x-s0"]
    assert "larger" not in outside.inputs
    options = outside.identity.settings["recipe"]["options"]
    assert options["distill"]["model"].startswith("content ")
