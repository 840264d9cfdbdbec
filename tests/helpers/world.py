"""Made-up runs with known effects: per-item records, the arms they are of, and what their cells cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ecr_bench.arm import Arm, Role, by_name
from ecr_bench.config import load
from ecr_bench.evaluation.records import SCHEMA
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.publish import draw
from ecr_bench.results.board import build_board
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.evidence import Facts
from ecr_bench.results.schema import Board
from ecr_bench.run import Run
from ecr_bench.types import Measure

LEVELS = {"finetune-1x": 0.45, "finetune-3x": 0.5, "ecr-1x": 0.75, "shuffled-1x": 0.45, "codes-only-1x": 0.4}
ALL_CONTROLS = {f"{name}-1x": 0.45 for name in ("random", "constant", "language", "shuffled", "codes-only")}
LANGUAGES = {"de": "seen", "ja": "unseen", "ru": "unseen"}
TASKS = {"intent": "coarse", "slot": "fine"}
SURFACE = {group: {task: {"copy": 0.3, "chance": 0.25} for task in TASKS} for group in ("seen", "unseen")}
QUICK = load("quick").model_dump(mode="json")
RECIPES = [*(Recipe.of(name) for name in METHODS), *(Recipe.of("ecr", [name]) for name in MODIFIERS)]
RECIPES += [Recipe.of("finetune", [name]) for name in ("distill", "lora")]
NAMED = by_name(recipe.arm(size) for recipe, size in product(RECIPES, ("1x", "3x", "9x")))
PARAMETERS = {"1x": 990_000, "3x": 2_970_000}


def arm(name: str | Arm, size: str = "") -> Arm:
    """``ecr-1x`` as a value with its role."""
    return name if isinstance(name, Arm) else NAMED[f"{name}-{size}" if size else name]


class Made(NamedTuple):
    records: pd.DataFrame
    arms: dict[str, Arm]
    cells: list[CellCosts]

    def with_cells(self, **changes: Any) -> Made:
        """The same with other costs."""
        return self._replace(cells=[cell.model_copy(update=changes) for cell in self.cells])

    def without(self, *names: str) -> Made:
        """Without the records and cells of some arms."""
        kept = [cell for cell in self.cells if str(cell.arm) not in names]
        return Made(self.records[~self.records["arm"].isin(names)], self.arms, kept)

    def under(self, name: str, *settings: dict[str, Any]) -> Made:
        """With an arm run only in other settings: its records and cells once for each of ``settings``."""
        plain, mine = self.arms[name], self.records["arm"] == name
        forms = [Arm.of(plain.method, plain.size, given, plain.role) for given in settings]
        parts = [self.records[mine].assign(arm=str(form), cell=self.records["cell"] + str(form)) for form in forms]
        cells = [
            cell.model_copy(update={"arm": form, "cell": f"{cell.cell}{form}"})
            for cell in self.cells
            if cell.arm == plain
            for form in forms
        ]
        return Made(
            pd.concat([self.records[~mine], *parts], ignore_index=True),
            {key: arm for key, arm in self.arms.items() if arm != plain} | by_name(forms),
            [*(cell for cell in self.cells if cell.arm != plain), *cells],
        )

    def facts(self, measures: list[Measure] | None = None) -> Facts:
        arms = self.arms | by_name(m.arm for m in measures or [])
        contrasts = board_of(self).contrasts
        return Facts.of(self.records, arms, self.cells, measures or [], QUICK, contrasts=contrasts)


def make(
    levels: Mapping[Any, float] | None = None,
    fine: dict[str, float] | None = None,
    seeds: int = 3,
    precisions: tuple[str, ...] = ("fp32", "nf4"),
    items: int = 150,
    seed: int = 0,
    parameters: dict[str, int] | None = None,
) -> Made:
    """Arms with known accuracy; ``fine`` gives other levels for the fine task, ``parameters`` those of each size.

    Main and plain arms have ``seeds`` seeds, others one. Every item has four options.
    """
    rng = np.random.default_rng(seed)
    given = {arm(name): level for name, level in (LEVELS if levels is None else levels).items()}
    base = items_of(items)
    is_fine = (base["grain"] == "fine").to_numpy()
    frames, cells = [], []
    for one, level in given.items():
        chance = np.where(is_fine, (fine or {}).get(str(one), level), level)
        for s in range(seeds if one.role in (Role.MAIN, Role.PLAIN) else 1):
            for precision in precisions:
                names: dict[str, Any] = {"cell": f"{one}-{s}", "precision": precision, "seed": s}
                extra = 0 if one.role is Role.PLAIN else 4
                right = rng.random(len(base)) < chance
                tokens = [[1] * extra] * len(base)
                told = {"arm": str(one), "extra_tokens": extra, "control_tokens": tokens}
                frames.append(answered(base, right).assign(**names, **told))
                size = (parameters or PARAMETERS).get(one.size)
                side = 400_000 if one.role is Role.MAIN else 0
                cells.append(CellCosts(**names, arm=one, parameters=size, side_parameters=side, ms_per_item=0.5 + s))
    records = pd.concat(frames, ignore_index=True)
    return Made(records[SCHEMA.names], by_name(given), cells)


def items_of(count: int) -> pd.DataFrame:
    """``count`` items in each language of each task."""
    rows = [(t, g, lang, group, k) for t, g in TASKS.items() for lang, group in LANGUAGES.items() for k in range(count)]
    base = pd.DataFrame(rows, columns=["task", "grain", "lang", "group", "k"])
    base["task_name"] = "ecr_" + base["task"] + "_" + base["lang"]
    base["target_lang"] = base["lang"]
    base["item_id"] = base["task"] + base["lang"] + base["k"].astype(str)
    base["cluster"] = "m" + base["k"].astype(str)
    base["topic"] = "t" + (base["k"] % 10).astype(str)
    base["gold"] = base["k"] % 4
    base["choice_bytes"] = [[3, 4, 5, 6]] * len(base)
    return base.drop(columns="k")


def answered(items: pd.DataFrame, right: np.ndarray) -> pd.DataFrame:
    """Answers whose log-likelihoods, prediction and ``correct`` agree with ``right``."""
    predicted = np.where(right, items["gold"], (items["gold"] + 1) % 4)
    scores = np.full((len(items), 4), -2.0)
    scores[np.arange(len(items)), predicted] = -1.0
    return items.assign(predicted=predicted, correct=right, loglikelihoods=list(scores.tolist()))


def board_of(made: Made, **changes: Any) -> Board:
    given: dict[str, Any] = {"baselines": SURFACE, "provenance": {"commit": "abc"}, "notes": ["a note"]} | changes
    return build_board("quick", made.records, made.arms, made.cells, **given)


def run_of(made: Made, measures: list[Measure] | None = None, **changes: Any) -> Run:
    """The same as a run of the experiment ``quick``."""
    board = board_of(made, **{"provenance": {"experiment": QUICK}, **changes})
    return Run("quick", made.arms, board, made.cells, measures or [], own_records=made.records)


def finished(folder: Path, made: Made, measures: list[Measure] | None = None) -> Run:
    """The files of a finished run."""
    run = run_of(made, measures)
    run.write_data(folder)
    draw(run, folder)
    return run


def measured(metric: str, by_arm: Mapping[Any, list[float]], n: int = 100, **more: Any) -> list[Measure]:
    """One value per seed for each arm."""
    return [
        Measure(metric, value, n=n, cell=f"{name}-s{seed}", arm=arm(name), seed=seed, **more)
        for name, values in by_arm.items()
        for seed, value in enumerate(values)
    ]
