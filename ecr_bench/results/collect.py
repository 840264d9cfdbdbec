"""Gather what finished cells left in the store: per-item records and one row of costs per cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm, Role, by_name
from ecr_bench.corpora.card import UNALIGNED
from ecr_bench.ecr.quality import Quality
from ecr_bench.evaluation.records import SCHEMA, read_records, undecided
from ecr_bench.fast.switch import VARIABLE
from ecr_bench.io import read_json
from ecr_bench.metrics.files import FILE, read_measures
from ecr_bench.outside import models_named
from ecr_bench.results.arms import GROUPS
from ecr_bench.results.board import Baselines
from ecr_bench.results.budget import step_notes
from ecr_bench.results.cells import CellCosts, comparable
from ecr_bench.results.claim_settings import own_settings
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.ran import Ran
from ecr_bench.runner.store import Store
from ecr_bench.stages.anchors import AnchorsFitted, AnchorsStage
from ecr_bench.stages.base_model import BaseSettings
from ecr_bench.stages.corpus import CorpusStage
from ecr_bench.stages.items import ItemsStage
from ecr_bench.stages.score import Cost, ScoreStage
from ecr_bench.stages.train import Trained, TrainSettings, TrainStage
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
    return _comparable(records) if len(_seen_sets(plan)) > 1 else records


def _seen_sets(plan: Plan) -> set[tuple[str, ...]]:
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


def collect_notes(plan: Plan, store: Store) -> list[str]:
    """What a reader must know about how this run was made, from what the stages recorded."""
    experiment = plan.experiment
    notes = []
    if experiment.pretrain.seed_per_cell:
        notes.append("Each fine-tuning seed has a base model of its own, so intervals cover pre-training as well.")
    else:
        notes.append(
            f"All seeds share one base model per size (pre-training seed {experiment.pretrain.seed}): "
            "intervals cover fine-tuning seeds and items, not pre-training."
        )
    if experiment.anchors.seed_per_cell:
        notes.append("Each fine-tuning seed has anchors of its own, so intervals cover the draw of the anchors.")
    elif any(cell.anchors for cell in plan.cells):
        notes.append(
            f"All seeds share one draw of the semantic anchors (anchors.seed {experiment.anchors.seed}): intervals do "
            "not cover another draw."
        )
    if len(seen := _seen_sets(plan)) == 1:
        languages = "from " + ", ".join(next(iter(seen)))
    else:
        languages = "from other languages in other cells; items that are seen in one and unseen in another are left out"
    notes.append(f"Labelled training rows come {languages}; the other languages gave unlabelled text.")
    for stage_id in dict.fromkeys(cell.items for cell in plan.cells):
        if unlabelled := store.read(ItemsStage, stage_id).seen_without_items:
            notes.append(f"No labelled row in {', '.join(unlabelled)}: counted as seen, trained on text only.")
    for found in _sound_anchors(plan, store):
        quality: dict[str, Any] = dict(found.quality)
        notes.append(f"Projection on held-out text: {Quality(**quality).summary()}.")
    card = read_json(_corpus_folder(plan, store) / "card.json")
    notes.append(
        f"Corpus {card['name']}: {card['rows']} rows; duplicates dropped within splits "
        f"{card['duplicates_dropped']}, across splits {card['cross_split_duplicates_dropped']}."
    )
    notes += step_notes({cell.arm: [plan.experiment.model_dump(mode="json")] for cell in plan.cells})
    notes += [*_translation_notes(plan, store, card), _dropout_note(plan), *_begin_note(plan), *_cut_note(plan, store)]
    notes += [*_memory_note(plan, store), *_plain_note(plan), *_one_training_notes(plan)]
    return notes


def divergence_note(cells: Sequence[CellCosts]) -> list[str]:
    """One note for all cells that diverged: the means of an arm leave out its seeds that did."""
    names: dict[str, list[str]] = {}
    for row in cells:
        if row.diverged:
            names.setdefault(row.cell, []).append(row.precision)
    if not names:
        return []
    listed = ", ".join(f"{cell} ({', '.join(precisions)})" for cell, precisions in names.items())
    return [
        f"{len(names)} of {len({row.cell for row in cells})} cells diverged and are in no mean, rank, tie or "
        f"comparison: {listed}. Means of their arms are over the other seeds."
    ]


def edge_note(cells: Sequence[CellCosts]) -> list[str]:
    """Of probes whose ridge is the strongest or the weakest that was tried, by arm."""
    found: dict[Arm, dict[str, None]] = {}
    for row in cells:
        for task, fit in (row.probe or {}).items():
            if fit.get("at_edge"):
                found.setdefault(row.arm, {})[task] = None
    return [
        f"The probe of {arm} took the strongest or the weakest ridge that was tried ({', '.join(tasks)}): "
        "with another it might do better."
        for arm, tasks in found.items()
    ]


def undecided_note(records: pd.DataFrame) -> list[str]:
    """Of how many answers the order of the options decided, by arm."""
    found = undecided(records).groupby(records["arm"], sort=True).agg(["sum", "count"])
    listed = [f"{arm} in {lost:,} of {count:,}" for arm, lost, count in found.itertuples() if lost]
    if not listed:
        return []
    return [
        "Two options share the highest log-likelihood, and the first of them counts as chosen, in answers of "
        f"{', '.join(listed)}: a tokenizer that makes the same tokens of both, or a model that sees no difference."
    ]


def collect_fingerprints(plan: Plan, store: Store) -> dict[str, Any]:
    """What the results rest on: fingerprint of the corpus, of teacher and anchors, what each model that settings name
    stands for, and every cell's stage."""
    # that of the experiment, where an arm has it: merging counts it for arms that set none of their own
    of_experiment = [cell for cell in plan.cells if not any(path[0] == "corpus" for path in own_settings(cell.arm))]
    corpus = plan.stages[(of_experiment or plan.cells)[0].train].inputs["corpus"]
    anchors = _sound_anchors(plan, store)
    return {
        "corpus": store.read(CorpusStage, corpus).fingerprint,
        "teachers": sorted({result.teacher for result in anchors}),
        "anchors": sorted({result.anchors for result in anchors}),
        "models": models_named((stage.settings, stage.identity.settings) for stage in plan.stages.values()),
        "cells": {cell.label: cell.train for cell in plan.cells},
        "translations": [found.model_dump(mode="json") for found in collect_translations(plan, store)],
    }


def _sound_anchors(plan: Plan, store: Store) -> list[AnchorsFitted]:
    """Results of the stages that made anchors; those of a model that diverged made none."""
    stages = dict.fromkeys(cell.anchors for cell in plan.cells if cell.anchors)
    return [found for stage in stages if (found := store.find(AnchorsStage, stage)) is not None]


def collect_translations(plan: Plan, store: Store) -> list[TranslationsFound]:
    """What the teachers said of the corpora; nothing of one that diverged."""
    stages = dict.fromkeys(cell.translations for cell in plan.cells if cell.translations)
    return [found for stage in stages if (found := store.find(TranslationsStage, stage)) is not None]


def _translation_notes(plan: Plan, store: Store, card: dict[str, Any]) -> list[str]:
    found = [note for one in collect_translations(plan, store) for note in one.notes()]
    if not found and not card["aligned"]:
        found = [f"Corpus {card['name']}: {UNALIGNED}; no arm asks a teacher, so none were looked for."]
    return found


def _one_training_notes(plan: Plan) -> Iterator[str]:
    """Arms of several names that are one training: none of them reads what tells them apart."""
    arms: dict[tuple[str, str], list[str]] = {}
    for cell in plan.cells:
        arms.setdefault((cell.train, cell.score), []).append(str(cell.arm))
    for names in dict.fromkeys(tuple(dict.fromkeys(found)) for found in arms.values()):
        if len(names) > 1:
            yield f"One training under {len(names)} names, what tells them apart changes nothing: {', '.join(names)}."


def _begin_note(plan: Plan) -> list[str]:
    """Which arms have had their control tokens since pre-training; nothing where none has."""
    begins = {}
    for cell in plan.cells:
        settings = plan.stages[cell.train].settings
        if isinstance(settings, TrainSettings) and settings.control_tokens.count:
            begins[cell.arm] = settings.control_tokens.begin
    early = [str(arm) for arm, begin in begins.items() if begin == "pretraining"]
    if not early:
        return []
    which = "in every arm that has them" if len(early) == len(begins) else "in " + ", ".join(early)
    return [
        f"Control tokens stand in front of texts from the first step of pre-training on {which}; the loss falls on the "
        "text, and plain models read the same texts in the same order."
    ]


def _dropout_note(plan: Plan) -> str:
    """What happened to dropout inside the models, in pre-training and in every arm."""
    settings = [stage.settings for stage in plan.stages.values()]
    said = {given.pretrain.dropout for given in settings if isinstance(given, BaseSettings)}
    said |= {given.finetune.dropout for given in settings if isinstance(given, TrainSettings)}
    if said <= {"none"}:
        return "Dropout inside models: none, in base models and in every arm."
    if said == {"model"}:
        return "Dropout inside models: as each model's configuration says, in base models and in every arm."
    return "Dropout inside models differs between stages or arms: see `dropout` in the settings of each."


def _plain_note(plan: Plan) -> list[str]:
    """Whether it was computed the plain way: its times are no comparison."""
    if not any(stage.identity.plain for stage in plan.stages.values()):
        return []
    return [f"{VARIABLE}=1: computed the plain way, without the pieces that save time or memory."]


def _memory_note(plan: Plan, store: Store) -> list[str]:
    """What the main arms store beside the model: a small model with a large projection is not small."""
    beside = {}
    for cell in plan.cells:
        trained = store.find(TrainStage, cell.train)
        if cell.arm.role is Role.MAIN and trained and trained.side_parameters:
            beside[cell.arm] = (trained.side_parameters, trained.parameters)
    return [
        f"{arm} stores {side:,} numbers (projection and anchors) beside the {model:,} of its model; they count."
        for arm, (side, model) in beside.items()
    ]


def _cut_note(plan: Plan, store: Store) -> list[str]:
    """Of how many items the context did not fit whole, in the worst seed of each arm."""
    found: dict[Arm, tuple[int, int]] = {}
    for cell in plan.cells:
        scored = store.find(ScoreStage, cell.score)
        if scored and (lost := sum(scored.cut.values())):
            found[cell.arm] = max((lost, scored.items), found.get(cell.arm, (0, 0)))
    listed = ", ".join(f"{arm} in {lost} of {items} items" for arm, (lost, items) in found.items())
    return [f"Prompts were cut on their left to fit the window: {listed}."] if found else []


def collect_surface(plan: Plan, store: Store) -> Baselines:
    """Copy, length and majority baselines of the test items; none where cells differ in what is seen."""
    if len(_seen_sets(plan)) > 1:
        return {}
    by_task: Baselines = read_json(store.path(plan.cells[0].items) / "surface.json")
    return {
        group: {task: by_group[group] for task, by_group in by_task.items() if group in by_group} for group in GROUPS
    }


def _corpus_folder(plan: Plan, store: Store) -> Path:
    return store.path(plan.stages[plan.cells[0].train].inputs["corpus"]) / "corpus"
