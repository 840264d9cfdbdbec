"""What a reader must know about how a run was made, as notes of its board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm, Role
from ecr_bench.corpora.card import UNALIGNED
from ecr_bench.ecr.quality import Quality
from ecr_bench.evaluation.records import undecided
from ecr_bench.fast.switch import VARIABLE
from ecr_bench.io import read_json
from ecr_bench.results.budget import step_notes
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.collect import collect_translations, corpus_folder, seen_sets, sound_anchors
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.store import Store
from ecr_bench.stages.base_model import BaseSettings
from ecr_bench.stages.items import ItemsStage
from ecr_bench.stages.score import ScoreStage
from ecr_bench.stages.train import TrainSettings, TrainStage


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
    if len(seen := seen_sets(plan)) == 1:
        languages = "from " + ", ".join(next(iter(seen)))
    else:
        languages = "from other languages in other cells; items that are seen in one and unseen in another are left out"
    notes.append(f"Labelled training rows come {languages}; the other languages gave unlabelled text.")
    for stage_id in dict.fromkeys(cell.items for cell in plan.cells):
        if unlabelled := store.read(ItemsStage, stage_id).seen_without_items:
            notes.append(f"No labelled row in {', '.join(unlabelled)}: counted as seen, trained on text only.")
    for found in sound_anchors(plan, store):
        quality: dict[str, Any] = dict(found.quality)
        notes.append(f"Projection on held-out text: {Quality(**quality).summary()}.")
    card = read_json(corpus_folder(plan, store) / "card.json")
    notes.append(
        f"Corpus {card['name']}: {card['rows']} rows; duplicates dropped within splits "
        f"{card['duplicates_dropped']}, across splits {card['cross_split_duplicates_dropped']}."
    )
    notes += step_notes({cell.arm: [plan.experiment.model_dump(mode="json")] for cell in plan.cells})
    notes += [*_translation_notes(plan, store, card), _dropout_note(plan), *_begin_note(plan), *_cut_note(plan, store)]
    notes += [*_memory_note(plan, store), *_plain_note(plan), *_rate_note(plan), *_one_training_notes(plan)]
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


def _translation_notes(plan: Plan, store: Store, card: dict[str, Any]) -> list[str]:
    found = [note for one in collect_translations(plan, store) for note in one.notes()]
    if not found and not card["aligned"]:
        found = [f"Corpus {card['name']}: {UNALIGNED}; no arm asks a teacher, so none were looked for."]
    return found


def _rate_note(plan: Plan) -> Iterator[str]:
    """Which sizes the learning rates of the stages do not reach."""
    used = {cell.arm.size for cell in plan.cells}
    rates = {name: size.learning_rate for name, size in plan.experiment.sizes.items() if name in used}
    if own := ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate):
        yield f"Learning rate of a size, in place of that of pre-training and fine-tuning: {own}."


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
