"""Gather what finished cells left in the store: records, costs, measures, and fingerprints of what they rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm, by_name
from ecr_bench.evaluation.records import SCHEMA, read_records
from ecr_bench.io import read_json
from ecr_bench.metrics.files import FILE, read_measures
from ecr_bench.outside import models_named
from ecr_bench.results.arms import GROUPS
from ecr_bench.results.board import Baselines
from ecr_bench.results.cells import CellCosts, comparable
from ecr_bench.results.claim_settings import sets
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.ran import Ran
from ecr_bench.runner.store import Store
from ecr_bench.stages.anchors import AnchorsFitted, AnchorsStage
from ecr_bench.stages.corpus import CorpusStage
from ecr_bench.stages.score import Cost, ScoreStage
from ecr_bench.stages.train import Trained, TrainStage
from ecr_bench.stages.translations import TranslationsFound, TranslationsStage
from ecr_bench.types import Measure


def collect_records(plan: Plan, store: Store) -> pd.DataFrame:
    """Per-item records of all cells that have scores, with the columns of ``evaluation.records``."""
    frames = [pd.DataFrame(columns=SCHEMA.names)]
    for cell in plan.cells:
        if store.reason(cell.score):
            continue
        frame = read_records(store.path(cell.score) / "records.parquet")
        frame["cell"], frame["arm"], frame["seed"] = cell.label, str(cell.arm), cell.seed
        frames.append(frame)
    records = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
    return _comparable(records) if len(seen_sets(plan)) > 1 else records


def seen_sets(plan: Plan) -> set[tuple[str, ...]]:
    return {tuple(sorted(plan.stages[cell.score].settings.seen)) for cell in plan.cells}


def _comparable(records: pd.DataFrame) -> pd.DataFrame:
    """Without the items that are seen for one cell and unseen for another: no mean may mix the two."""
    return records[records.groupby(["task_name", "item_id"])["group"].transform("nunique") == 1].reset_index(drop=True)


def collect_arms(plan: Plan) -> dict[str, Arm]:
    """Printed form -> arm, in the order of the plan."""
    return by_name(cell.arm for cell in plan.cells)


def collect_cells(plan: Plan, store: Store) -> list[CellCosts]:
    """Costs of each cell and precision: parameters, bytes, ms per item, seconds, peak memory, losses; or why it has no
    scores. Times and memory are left out where cells were made on different hardware (``cells.comparable``).
    """
    rows = []
    for cell in plan.cells:
        trained, scored = store.find(TrainStage, cell.train), store.find(ScoreStage, cell.score)
        for precision in plan.stages[cell.score].settings.precisions:
            cost = scored.precisions.get(precision) if scored else None
            # what the stage of its scores has inherited holds for each precision
            reason = cost.diverged if cost else store.reason(cell.score)
            names = {"cell": cell.label, "arm": cell.arm, "seed": cell.seed, "precision": precision}
            made = {"base": cell.base, "stage": cell.train, "diverged": reason}
            where = {"trained_on": _hardware(store, cell.train), "scored_on": _hardware(store, cell.score)}
            rows.append(CellCosts(**{**_costs(trained), **_costs(cost), **names, **made, **where}))
    return comparable(rows)


def _hardware(store: Store, stage_id: str) -> str:
    ran = store.record(stage_id).get("ran")
    return Ran.model_validate(ran).hardware if ran else ""


def _costs(said: Trained | Cost | None) -> dict[str, Any]:
    """What ``CellCosts`` has of it."""
    return said.model_dump(include=set(CellCosts.model_fields)) if said else {}


def collect_measures(plan: Plan, store: Store) -> list[Measure]:
    """What is not accuracy, of all cells that were measured: geometry, semantic similarity, stability."""
    return [
        replace(measure, cell=cell.label, arm=cell.arm, seed=cell.seed)
        for cell in plan.cells
        for stage_id in (cell.geometry, cell.unconditional)
        if stage_id
        for measure in read_measures(store.path(stage_id) / FILE)
    ]


def collect_fingerprints(plan: Plan, store: Store) -> dict[str, Any]:
    """What the results rest on: fingerprint of the corpus, of teacher and anchors, what each model that settings name
    stands for, and every cell's stage."""
    # that of the experiment, where an arm has it: merging counts it for arms that set none of their own
    of_experiment = [cell for cell in plan.cells if not sets(cell.arm, "corpus")]
    corpus = plan.stages[(of_experiment or plan.cells)[0].train].inputs["corpus"]
    anchors = sound_anchors(plan, store)
    return {
        "corpus": store.read(CorpusStage, corpus).fingerprint,
        "teachers": sorted({result.teacher for result in anchors}),
        "anchors": sorted({result.anchors for result in anchors}),
        "models": models_named((stage.settings, stage.identity.settings) for stage in plan.stages.values()),
        "cells": {cell.label: cell.train for cell in plan.cells},
        "translations": [found.model_dump(mode="json") for found in collect_translations(plan, store)],
    }


def sound_anchors(plan: Plan, store: Store) -> list[AnchorsFitted]:
    """Results of the stages that made anchors; those of a model that diverged made none."""
    stages = dict.fromkeys(cell.anchors for cell in plan.cells if cell.anchors)
    return [found for stage in stages if (found := store.find(AnchorsStage, stage)) is not None]


def collect_translations(plan: Plan, store: Store) -> list[TranslationsFound]:
    """What the teachers said of the corpora; nothing of one that diverged."""
    stages = dict.fromkeys(cell.translations for cell in plan.cells if cell.translations)
    return [found for stage in stages if (found := store.find(TranslationsStage, stage)) is not None]


def collect_surface(plan: Plan, store: Store) -> Baselines:
    """Copy, length and majority baselines of the test items; none where cells differ in what is seen."""
    if len(seen_sets(plan)) > 1:
        return {}
    by_task: Baselines = read_json(store.path(plan.cells[0].items) / "surface.json")
    return {
        group: {task: by_group[group] for task, by_group in by_task.items() if group in by_group} for group in GROUPS
    }


def corpus_folder(plan: Plan, store: Store) -> Path:
    return store.path(plan.stages[plan.cells[0].train].inputs["corpus"]) / "corpus"
