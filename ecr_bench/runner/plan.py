"""From an experiment to the stages it needs, each with the hash of what can change its result.

corpus -> tokenizer, items -> base models, anchors -> trained cells -> scores. Stages that several
cells share appear once, so they are computed once, within an experiment and across experiments that
use the same ``--out``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecr_bench.arm import Arm
from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.errors import UserError, about
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.grid import CellStages, Grid
from ecr_bench.runner.rates import check_rates
from ecr_bench.source_code import forget
from ecr_bench.stages.stage import Stage
from ecr_bench.teachers.registry import TEACHERS

__all__ = ["Cell", "Plan", "Stage", "make_plan"]


@dataclass(frozen=True)
class Cell(CellStages):
    """An arm at one seed, trained and scored, with its stage ids."""

    arm: Arm
    seed: int

    @property
    def label(self) -> str:
        """Readable, and no other cell's."""
        return self.arm.cell(self.seed)


@dataclass(frozen=True)
class Plan:
    experiment: Experiment
    stages: dict[str, Stage[Any]]
    cells: list[Cell]


def make_plan(experiment: Experiment) -> Plan:
    """Check names against the registries and lay out stages and cells; files are read as they are now."""
    forget()
    stages: dict[str, Stage[Any]] = {}
    cells: list[Cell] = []
    for spec in experiment.cells:
        for size in spec.sizes:
            local = experiment.tuned_for(spec, size)
            with about("cells"):
                recipe = Recipe.of_spec(spec, local.options)
                _check_names(local, recipe)
            check_rates(experiment, spec, size)
            arm = recipe.arm_of(spec, size, experiment, local)
            grid = Grid(local, stages, experiment, spec.set)
            for seed in spec.seeds:
                cells.append(Cell(**vars(grid.cell(recipe, arm, seed)), arm=arm, seed=seed))
    labels = [cell.label for cell in cells]
    if duplicates := {label for label in labels if labels.count(label) > 1}:
        raise UserError(f"cells named twice: {', '.join(sorted(duplicates))}")
    return Plan(experiment, stages, cells)


def _check_names(experiment: Experiment, recipe: Recipe) -> None:
    recipe.check(experiment)
    for registry, name in ((CORPORA, experiment.corpus.name), (TEACHERS, experiment.teacher.name)):
        registry.check(name)
    for task in experiment.tasks:
        TASKS.check(task)
